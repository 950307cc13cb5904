"""EmbeddingGemma 2 on a tiny random checkpoint, against Sentence Transformers and plain transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.tiny_omni import PROMPTS, save_embedding_gemma2

from smart_retrieval import SmartModel
from smart_retrieval.errors import EmptyInputError, UnsupportedModelError
from smart_retrieval.inputs import item_of

HERE = Path(__file__).resolve().parent
TORCHVISION = Path(os.environ.get("SMART_TORCHVISION", Path(sys.prefix) / "torchvision"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_embedding_gemma2(tmp_path_factory.mktemp("gemma"))


@pytest.fixture(scope="module")
def found(checkpoint, tmp_path_factory):
    """What a process with torchvision says."""
    if not (TORCHVISION / "torchvision").is_dir():
        pytest.skip(f"no torchvision: pip install --no-deps --target {TORCHVISION} torchvision")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TORCHVISION), str(HERE.parent), *sys.path])}
    arguments = [str(HERE / "embedding_gemma2_check.py"), str(checkpoint), str(tmp_path_factory.mktemp("work"))]
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_anchors_are_those_of_sentence_transformers_and_of_transformers(found):
    for name in ("anchors", "alone", "query", "transformers", "states", "saved"):
        assert found[name] < 1e-5, name


def test_every_token_has_its_role_and_every_picture_its_grid(found):
    text, image, video = ["TEXT"], ["IMAGE"], ["VIDEO"]
    assert found["roles"] == [text, image, image + text, image, video, image + text + video]
    one, two, clip = ["image", 1, 7, 9], ["image", 1, 4, 14], ["video", 3, 7, 9]
    assert found["grids"] == [[], [one], [two], [one, two], [clip], [two, clip]]
    assert found["visual"] == [sum(t * h * w for _, t, h, w in own) for own in found["grids"]]
    assert found["state_of_layer_2"][1] == 32


def test_a_text_that_spells_a_placeholder_is_text(found):
    assert found["hostile"] == ["TEXT"]


def test_pages_in_an_index_and_what_inspect_says(found):
    assert found["hit"] == "first"
    assert found["about"] == {
        "modalities": ["image", "text", "video"], "pooling": "mean", "anchor_dim": 24, "hidden_size": 32,
        "max_frames": 32, "prompts": PROMPTS,
    }  # fmt: skip


def test_without_torchvision_the_error_says_what_to_install(checkpoint):
    with pytest.raises(
        UnsupportedModelError, match=r"needs torchvision, also for text: pip install 'smart-retrieval\["
    ):
        SmartModel(checkpoint, device="cpu")


def test_sound_is_refused_by_name():
    with pytest.raises(EmptyInputError, match=r"found keys \['audio'\], expected some of text, image, video"):
        item_of({"audio": "a.wav"})
