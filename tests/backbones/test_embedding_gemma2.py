"""EmbeddingGemma 2 on a tiny random checkpoint, against Sentence Transformers and plain transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.tiny_omni import PROMPTS, save_embedding_gemma2

from smart_retrieval import SmartModel
from smart_retrieval.errors import UnsupportedModelError

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
    for name in ("anchors", "alone", "query", "transformers", "states", "sound", "sound_states", "saved"):
        assert found[name] < 1e-5, name


def test_every_token_has_its_role_and_every_picture_its_grid(found):
    text, image, video, audio = ["TEXT"], ["IMAGE"], ["VIDEO"], ["AUDIO"]
    pictured = [text, image, image + text, image, video, image + text + video]
    assert found["roles"] == [*pictured, audio, audio, audio, audio + text, audio + image + text, audio + video]
    one, two, clip = ["image", 1, 7, 9], ["image", 1, 4, 14], ["video", 3, 7, 9]
    sounds = [["audio", 1, 1, tokens] for tokens in (13, 38, 25)]  # of 0.5, 1.5 and 1 s
    heard = [*([sound] for sound in sounds), sounds[:1], [one, sounds[1]], [clip, sounds[0]]]
    assert found["grids"] == [[], [one], [two], [one, two], [clip], [two, clip], *heard]
    assert found["visual"] == [sum(t * h * w for _, t, h, w in own) for own in found["grids"]]
    assert found["state_of_layer_2"][1] == 32


def test_a_text_that_spells_a_placeholder_is_text(found):
    assert set(found["hostile"]) <= {"TEXT", "CONTINUATION"}


def test_pages_in_an_index_and_what_inspect_says(found):
    assert found["hit"] == "first"
    assert found["about"] == {
        "modalities": ["audio", "image", "text", "video"], "pooling": "mean", "anchor_dim": 24, "hidden_size": 32,
        "max_frames": 32, "max_seconds": 18.92, "prompts": PROMPTS,
    }  # fmt: skip


def test_without_torchvision_the_error_says_what_to_install(checkpoint):
    with pytest.raises(
        UnsupportedModelError, match=r"needs torchvision, also for text: pip install 'smart-retrieval\["
    ):
        SmartModel(checkpoint, device="cpu")


def test_recordings_are_indexed_in_pieces_that_the_model_hears_whole(found):
    about = found["recordings"]
    assert about["ids"] == ["long.wav#t=0,15", "long.wav#t=15,30", "long.wav#t=30,45", "short.wav#t=0,2"]
    assert about["first"][:2] == ["short.wav#t=0,2", "audio"]
    assert about["first"][2] == {"kind": "audio", "width": None, "height": None, "times": [0.0, 2.0]}
    assert about["failed"] == [["broken.mp3", "not a readable recording"]]
    assert (about["passages"], about["pictures"], about["again"]) == (4, 0, [2, 0])
    assert about["kinds"] == {"audio": 4}
    assert about["verified"]


def test_explanations_name_seconds_of_the_recording(found):
    about = found["recordings"]
    assert about["answers"]
    assert all(answer.startswith(("0:1", "0:2")) for answer in about["answers"]), "the piece is from 0:15 to 0:30"
    (best,) = about["frames"]
    assert len(best) == 4
    assert [one["time"] for one in best] == [15.0 + one["step"] for one in best]
    assert [one["score"] for one in best] == sorted((one["score"] for one in best), reverse=True)
    assert about["rows"] == ["[sound] × 50"]
    assert about["page"]
    assert about["png"] == b"\x89PNG".hex()


def test_rows_name_recordings_by_path_or_bytes(found):
    about = found["recordings"]
    assert about["rows_of_data"] == ["audio"] * 3
    assert about["same_rows"] == 0
    assert about["bad_rows"] == [[2, "cannot read its bytes: not a readable recording"]]


def test_a_sound_track_that_is_not_heard_is_noted(found):
    noted = found["recordings"]["noted"]
    assert noted == [["heard.mp4", "sound track of a video not heard, only its frames are seen"]]


def test_training_in_small_batches_refuses_sound(found):
    assert found["recordings"]["uncut"].startswith("mini_batch: found audio among the items")


def test_what_is_not_heard_is_counted_and_what_cannot_be_cut_off_refused(found):
    truncated, tokens, heard = found["recordings"]["cut"]
    assert (truncated, tokens + heard) == (1, 40 * 25)
    assert "expected less text beside its pictures, video or sound" in found["recordings"]["refused"]


def test_a_model_without_sound_says_so(smart):
    with pytest.raises(UnsupportedModelError, match="found an input with audio, expected text"):
        smart("mean").encode_query({"audio": "a.wav"})
