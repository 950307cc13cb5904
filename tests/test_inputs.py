"""What counts as one item; a string is always text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smart_retrieval.errors import EmptyInputError
from smart_retrieval.inputs import Frames, Item, Sound, is_one_item, item_of
from smart_retrieval.sound import SoundFile

PICTURE = Image.new("RGB", (4, 4))
FRAMES = Frames((PICTURE,), (0.0,))
SOUND = Sound(np.zeros(8), 8_000)


class Page:
    """An image source."""

    def load(self):
        return PICTURE


class Clip:
    """A video source."""

    def frames(self, max_frames):
        return FRAMES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", Item("text")),
        ("", Item("")),
        (PICTURE, Item(images=(PICTURE,))),
        (Path("a.png"), Item(images=(Path("a.png"),))),
        (Path("a.MP4"), Item(video=Path("a.MP4"))),
        (FRAMES, Item(video=FRAMES)),
        ({"text": "x"}, Item("x")),
        ({"text": "x", "image": "a.png"}, Item("x", (Path("a.png"),))),
        ({"image": [PICTURE, Path("b.jpg")]}, Item("", (PICTURE, Path("b.jpg")))),
        ({"video": "v.mp4", "instruction": "Find."}, Item(video=Path("v.mp4"), instruction="Find.")),
        ({"video": FRAMES, "image": None}, Item(video=FRAMES)),
        (Path("a.Mp3"), Item(audio=Path("a.Mp3"))),
        (SOUND, Item(audio=SOUND)),
        (SoundFile(Path("/a.wav"), 1, 2), Item(audio=SoundFile(Path("/a.wav"), 1, 2))),
        ({"audio": "a.flac", "text": "x"}, Item("x", audio=Path("a.flac"))),
    ],
)
def test_items(value, expected):
    assert item_of(value) == expected
    assert item_of(item_of(value)) is not None
    assert is_one_item(value)


def test_sources_are_items():
    page, clip = Page(), Clip()
    assert item_of(page).images == (page,)
    assert item_of(clip).video is clip
    assert item_of({"image": page, "video": clip}).modalities == {"image", "video"}


@pytest.mark.parametrize(
    "text", ["http://example.org/a.png", "/etc/passwd", "file:///etc/passwd", "data:image/png;base64,AA"]
)
def test_a_string_is_text_whatever_it_looks_like(text):
    assert item_of(text) == Item(text)
    assert item_of({"text": text}) == Item(text)


@pytest.mark.parametrize("key", ["image", "video", "audio"])
@pytest.mark.parametrize(
    "url", ["http://example.org/a.png", "https://e.org/v.mp4", "file:///a.png", "data:image/png;base64,AA"]
)
def test_nothing_is_fetched(key, url):
    with pytest.raises(EmptyInputError, match="nothing is fetched"):
        item_of({key: url}, 3)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        b"bytes",
        ["a"],
        {},
        {"txt": "a"},
        {"text": 3},
        {"image": 3},
        {"video": PICTURE},
        {"audio": FRAMES},
        {"audio": np.zeros(8)},
        {"text": None},
        {"image": []},
    ],
)
def test_other_values_are_refused_with_their_position(value):
    with pytest.raises(EmptyInputError, match="item 5"):
        item_of(value, 5)


@pytest.mark.parametrize("several", [["a"], ("a", "b"), iter(["a"]), {"a": 1}.keys()])
def test_collections_are_not_one_item(several):
    assert not is_one_item(several)


def test_embeddings_are_not_an_image():
    from smart_retrieval import SmartEmbeddings

    embeddings = SmartEmbeddings([[1.0]], [[1.0]], [0, 1])
    assert not is_one_item(embeddings)
    with pytest.raises(EmptyInputError, match="found SmartEmbeddings"):
        item_of(embeddings)


def test_an_array_with_its_rate_is_sound():
    item = item_of({"audio": {"array": np.ones(8, np.int16), "sampling_rate": 8_000, "path": "a.wav"}})
    assert (item.audio.rate, item.audio.samples.dtype) == (8_000, np.float32)


def test_modalities():
    assert Item().modalities == {"text"}
    assert Item("x", (PICTURE,)).modalities == {"text", "image"}
    assert Item(video=FRAMES).modalities == {"video"}
    assert Item("x", audio=SOUND).modalities == {"text", "audio"}


class Frame(dict):
    """What a data frame looks like, without pandas."""

    columns, shape = ("text", "year"), (2, 2)


def test_a_table_is_refused_before_its_column_names_are_taken_for_texts():
    from smart_retrieval.index.ingest.new_documents import new_documents

    with pytest.raises(EmptyInputError, match=r"found a table \(Frame\), expected its column"):
        is_one_item(Frame(text=["a"], year=[1]))
    with pytest.raises(EmptyInputError, match="found a table"):
        next(new_documents(Frame(text=["a"], year=[1])))
    with pytest.raises(EmptyInputError, match="metadata: found one object"):
        next(new_documents(["a"], ["1"], metadata={"year": 1}))
