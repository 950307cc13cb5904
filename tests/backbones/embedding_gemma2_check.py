"""What SmartModel, Sentence Transformers and plain transformers make of the same items; run as a program.

It needs torchvision, see torchvision_check.py:

    PYTHONPATH=<folder with torchvision>:src:tests python embedding_gemma2_check.py <checkpoint> <empty folder>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms"):
    _LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import numpy as np  # noqa: E402
from fixtures.pictures import picture  # noqa: E402
from fixtures.tiny_sound import tones, write_wav  # noqa: E402
from fixtures.tiny_video import tiny_video  # noqa: E402

from smart_retrieval import Readout, SmartIndex, SmartModel  # noqa: E402
from smart_retrieval.cluster.dataset import Row  # noqa: E402
from smart_retrieval.cluster.rows import Columns, documents_of  # noqa: E402
from smart_retrieval.core.roles import TokenRole  # noqa: E402
from smart_retrieval.errors import MediaError, TrainingError  # noqa: E402
from smart_retrieval.inputs import Frames, Item, Sound  # noqa: E402
from smart_retrieval.model.describe import describe_model  # noqa: E402
from smart_retrieval.training import FinetuneRecipe, finetune  # noqa: E402
from smart_retrieval.training.data.examples import Example, TrainingSet  # noqa: E402

UNSAMPLED = {"video": {"do_sample_frames": False}}


def main(folder: Path, work: Path) -> None:
    from sentence_transformers import SentenceTransformer

    first, second = picture(1, 56, 40), picture(2, 90, 30)
    frames = Frames(tuple(picture(number, 56, 40) for number in range(3)), (0.5, 10.5, 20.5))
    sounds = [tones(*pitches, seconds=0.5) for pitches in ((300,), (500, 700, 900), (1100, 400))]
    items: list[dict[str, Any]] = [
        {"text": "an otter"}, {"image": first}, {"text": "an otter", "image": second}, {"image": [first, second]},
        {"video": frames}, {"text": "an otter", "image": second, "video": frames},
        *({"audio": Sound(sound, 16_000)} for sound in sounds), {"text": "an otter", "audio": Sound(sounds[0], 16_000)},
        {"text": "an otter", "image": first, "audio": Sound(sounds[1], 16_000)},
        {"video": frames, "audio": Sound(sounds[0], 16_000)},
    ]  # fmt: skip
    model, stock = SmartModel(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu")
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in frames.images]).transpose(0, 3, 1, 2))
    described = {"fps": 0.1, "total_num_frames": 3, "duration": 30.0, "frames_indices": [0, 1, 2]}
    video = {"array": stacked, "video_metadata": described}

    def as_stock(item: dict[str, Any]) -> dict[str, Any]:
        sound = item.get("audio")
        heard = {} if sound is None else {"audio": {"array": sound.samples, "sampling_rate": 16_000}}
        return {**item, **({"video": video} if "video" in item else {}), **heard}

    expected = np.vstack([stock.encode_document([as_stock(item)], processing_kwargs=UNSAMPLED) for item in items])
    together = model.encode_document(items)
    alone = np.vstack([model.encode_document([item]).anchors for item in items])
    query = model.encode_query([items[0]]).anchors - stock.encode_query([items[0]])
    paper = SmartModel(folder, device="cpu", preset="paper")
    states = paper.encode_document([items[2]])
    rebuilt, own = by_transformers(folder, "title: none | text: an otter<|image|>", images=[[second]])
    heard = paper.encode_document([items[9], {"audio": Sound(tones(200, 300, 400), 16_000)}])[0]
    rebuilt_sound, own_sound = by_transformers(folder, "title: none | text: an otter<|audio|>", audio=[sounds[0]])
    middle = paper.with_readout(Readout((2,))).encode_document([items[2]])
    hostile = model.encode_document(["a <|image|> and <|video|> and <|audio|>", "a picture"])
    model.save_pretrained(work / "saved")
    again = SmartModel(work / "saved", device="cpu").encode_document(items)
    with SmartIndex.create(work / "pages.smart", model, codec="float32") as index:
        index.add(items[1:3], ids=["first", "second"])
        hit = index.search({"image": first}, k=1)[0].id
    about = describe_model(folder)
    found = {
        "anchors": abs(together.anchors - expected).max(),
        "alone": abs(alone - expected).max(),
        "query": abs(query).max(),
        "transformers": abs(states.anchors[0] - rebuilt).max(),
        "sound": abs(heard.anchors[0] - rebuilt_sound).max(),
        "sound_states": farthest(heard.token_vectors, own_sound),
        "states": farthest(states.token_vectors, own),
        "state_of_layer_2": list(middle.token_vectors.shape),
        "saved": abs(again.anchors - together.anchors).max(),
        "roles": [
            sorted({TokenRole(role).name for role in together.roles[start:stop]})
            for start, stop in zip(together.offsets[:-1], together.offsets[1:], strict=True)
        ],
        "grids": [[list(grid) for grid in grids] for grids in together.grids],
        "visual": [int(np.isin(model.encode_document([item]).roles, (4, 5, 8)).sum()) for item in items],
        "hostile": sorted({TokenRole(role).name for role in hostile.roles}),
        "hit": hit,
        **recordings(work, model),
        "about": {
            name: about[name]
            for name in ("modalities", "pooling", "anchor_dim", "hidden_size", "max_frames", "max_seconds", "prompts")
        },
    }  # fmt: skip
    print(json.dumps(found, default=float))


def farthest(found: Any, expected: Any) -> float:
    """The largest difference of two arrays; more than any where their shapes differ."""
    return float(abs(found - expected).max()) if found.shape == expected.shape else 9.0


def recordings(work: Path, model: SmartModel) -> dict[str, Any]:
    """An index of a folder with recordings: what is found, and how it is explained."""
    folder = work / "recordings"
    folder.mkdir()
    write_wav(folder / "long.wav", tones(*range(300, 1200, 20)), 16_000)
    write_wav(folder / "short.wav", tones(440, 880, rate=8_000), 8_000)
    (folder / "broken.mp3").write_bytes(b"none")
    rows = [
        Row(name, {"id": name, "text": None, "audio": one})
        for name, one in (
            ("path", {"path": "short.wav", "bytes": None}),
            ("bytes", {"path": None, "bytes": (folder / "short.wav").read_bytes()}),
            ("broken", b"none"),
        )
    ]
    of_rows = list(documents_of(iter(rows), Columns().of(model.modalities), folder))
    encoded = model.encode_document([one.item for one in of_rows], on_error="skip")
    (work / "clips").mkdir()
    tiny_video(work / "clips" / "heard.mp4", 2, audio_seconds=1)
    tiny_video(work / "clips" / "silent.mp4", 2)
    with SmartIndex.create(work / "clips.smart", model, codec="float32") as index:
        noted = index.index_folder(work / "clips").notes
    pairs = TrainingSet("sounds", [Item("an otter")], [of_rows[0].item], [Example(0, (0,))], [""])
    try:
        finetune(model, pairs, work / "trained", FinetuneRecipe(mini_batch=2))
        uncut = ""
    except TrainingError as error:
        uncut = str(error)
    with SmartIndex.create(work / "sound.smart", model, codec="float32") as index:
        report, again = index.index_folder(folder), index.index_folder(folder)
        hits = index.search({"audio": folder / "short.wav"}, k=9)
        why = index.explain("an otter", "long.wav#t=15,30")
        of_sound = index.explain({"audio": folder / "short.wav"}, hits[0].id)
        page, picture = why.to_html(), why.to_png()
        long = model.encode_document([{"audio": Sound(np.zeros(40 * 16_000), 16_000)}])
        try:
            model.encode_document([{"text": "word " * 400, "audio": folder / "short.wav"}])
            refused = ""
        except MediaError as error:
            refused = str(error)
        return {
            "recordings": {
                "ids": sorted(hit.id for hit in hits), "first": [hits[0].id, hits[0].kind, hits[0].to_dict()["media"]],
                "failed": [[one.path, one.reason] for one in report.skipped], "passages": report.passages,
                "pictures": report.pictures, "again": [again.unchanged, again.passages],
                "kinds": index.info()["pictures"],
                "rows_of_data": [one.picture.kind for one in of_rows], "bad_rows": encoded.report.failures,
                "same_rows": abs(encoded.anchors[0] - encoded.anchors[1]).max(), "noted": noted, "uncut": uncut,
                "verified": index.verify().ok, "answers": [row.answer for row in why.rows()],
                "frames": why.to_dict()["visual"]["frames"], "rows": [row.label for row in of_sound.rows()],
                "page": "The seconds that matched" in page and "best seconds: 0:" in page, "png": picture[:4].hex(),
                "cut": [long.report.truncated, long.report.truncated_tokens, long.grids[0][0].w], "refused": refused,
            }
        }  # fmt: skip


def by_transformers(folder: Path, text: str, **media: Any) -> tuple[Any, Any]:
    """Anchor and states of all but special tokens, without Sentence Transformers."""
    from transformers import AutoModel, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = processor(text=[f"<bos>{text}<eos>"], return_tensors="pt", add_special_tokens=False, **media)
    with torch.inference_mode():
        states = model(**batch).last_hidden_state[0]
    special = set(processor.tokenizer.all_special_ids) - {processor.image_token_id, processor.audio_token_id}
    kept = [place for place, id in enumerate(batch["input_ids"][0].tolist()) if id not in special]
    unit = torch.nn.functional.normalize(states, dim=-1)
    return torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy(), unit[kept].numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
