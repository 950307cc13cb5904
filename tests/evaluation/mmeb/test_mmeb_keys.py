"""Keys of inputs: their words and the bytes of their pictures."""

import os
import shutil

import pytest
from fixtures.mmeb_layouts import Layout

from smart_retrieval.errors import DatasetError, MediaError
from smart_retrieval.evaluation.mmeb.keys import MediaDigests
from smart_retrieval.evaluation.mmeb.task_data import FrameClip
from smart_retrieval.inputs import Frames, Item
from smart_retrieval.pictures.images import ImageFile


@pytest.fixture
def media(tmp_path):
    layout = Layout(tmp_path)
    for name, seed in (("a.png", 0), ("b.png", 1), ("same.jpg", 0)):
        layout.picture(tmp_path / name, seed)
    layout.frames(tmp_path / "clip", 0)
    layout.frames(tmp_path / "copy", 0)
    layout.frames(tmp_path / "longer", 0, count=3)
    return tmp_path


def test_equal_inputs_have_equal_keys(media):
    digests = MediaDigests()

    def key(*images, text="", instruction=None, video=None, most=8):
        clip = None if video is None else FrameClip(media / video, most)
        return digests.key(Item(text, tuple(ImageFile(media / name) for name in images), clip, instruction))

    assert key("a.png") == key("same.jpg")
    assert key(video="clip") == key(video="copy")
    assert key(text="x") == key(text="x", instruction="")
    different = [
        key(text="a"),
        key(text="", instruction="a"),
        key("a.png"),
        key("b.png"),
        key("a.png", "b.png"),
        key("b.png", "a.png"),
        key(video="clip"),
        key(video="clip", most=4),
        key(video="longer"),
    ]
    assert len(set(different)) == len(different)


def test_a_changed_file_is_read_again(media):
    memo = media / "cache/media.jsonl"
    first = MediaDigests(memo)
    item = Item(images=(ImageFile(media / "a.png"),))
    video = Item(video=FrameClip(media / "clip", 8))
    before = first.key(item), first.key(video)
    first.save()
    assert len(memo.read_text().splitlines()) == 2
    again = MediaDigests(memo)
    assert (again.key(item), again.key(video)) == before
    again.save()
    assert len(memo.read_text().splitlines()) == 2
    shutil.copy(media / "b.png", media / "a.png")
    Layout(media).picture(media / "clip/frame_0002.jpg", 3)
    os.utime(media / "a.png", ns=(1, 1))
    os.utime(media / "clip/frame_0002.jpg", ns=(1, 2**62))
    third = MediaDigests(memo)
    assert third.key(item) != before[0]
    assert third.key(video) != before[1]


def test_nothing_is_read_twice(media, monkeypatch):
    from smart_retrieval.evaluation.mmeb import keys

    read = []
    monkeypatch.setattr(keys, "content_hash", lambda path: read.append(path.name) or "0")
    digests = MediaDigests(media / "memo.jsonl")
    for _ in range(2):
        digests.key(Item(images=(ImageFile(media / "a.png"),)))
    digests.save()
    MediaDigests(media / "memo.jsonl").key(Item(images=(ImageFile(media / "a.png"),)))
    assert read == ["a.png"]


def test_a_truncated_memo_is_read_up_to_its_end(media):
    memo = media / "memo.jsonl"
    memo.write_text('["x", [1, 2], "d"]\n["y", [1')
    assert MediaDigests(memo).key(Item("a"))


def test_missing_files_and_other_media_are_refused(media):
    digests = MediaDigests()
    with pytest.raises(MediaError, match=r"gone\.png: no such file"):
        digests.key(Item(images=(ImageFile(media / "gone.png"),)))
    with pytest.raises(MediaError, match="gone: no such file"):
        digests.key(Item(video=FrameClip(media / "gone", 8)))
    with pytest.raises(DatasetError, match="expected a folder of frames"):
        digests.key(Item(video=Frames((), ())))
