"""Pictures are decoded once, for the model and the thumbnail; ids follow their content."""

import pytest
from fixtures.pictures import picture, write_pdf, write_video
from fixtures.tiny_sound import tones, write_wav

from smart_retrieval.errors import MediaError
from smart_retrieval.index.ingest.new_documents import content_id
from smart_retrieval.index.ingest.recorded_pictures import kind_of, open_video, place_of, record_picture
from smart_retrieval.inputs import Frames, Item, Sound, item_of
from smart_retrieval.pictures.images import ImageFile, load_image
from smart_retrieval.pictures.pdf_pages import PdfPageImage
from smart_retrieval.pictures.video import VideoFile
from smart_retrieval.sound import SoundFile


class Counted:
    """An image source that counts its decodings."""

    def __init__(self, image):
        self.image, self.loads = image, 0

    def load(self):
        self.loads += 1
        return self.image


def frames(count, size=(160, 128)):
    return Frames(
        tuple(picture(number, *size) for number in range(count)), tuple(number / 2 for number in range(count))
    )


def test_a_picture_is_decoded_once_for_the_model_and_the_thumbnail():
    source = Counted(picture(1, 400, 300))
    item, seen = record_picture(Item("a caption", (source,)))
    assert source.loads == 0
    assert item.text == "a caption"
    assert item.images[0].load() is source.image
    media = seen.media()
    assert source.loads == 1
    assert (media.kind, media.width, media.height, media.times) == ("image", 400, 300, ())
    assert max(load_image(media.thumbnail()).size) == 160


def test_a_picture_the_model_did_not_decode_is_decoded_for_its_thumbnail():
    source = Counted(picture())
    assert record_picture(Item(images=(source,)))[1].media().width == 160
    assert source.loads == 1
    assert record_picture(Item(video=frames(3)))[1].media().times == (0, 0.5, 1)


def test_a_video_records_the_frames_given_to_the_model():
    item, seen = record_picture(Item(video=frames(9)))
    given = item.video.frames(4)
    assert given.times == (0, 1.5, 2.5, 4)
    assert seen.media().times == given.times
    assert seen.media().kind == "video"


def test_spreading_keeps_both_ends():
    for count in range(1, 12):
        for most in range(2, 12):
            times = open_video(frames(count, (32, 32)), most).times
            assert len(times) == min(count, most) == len(set(times))
            assert (times[0], times[-1]) == (0, (count - 1) / 2)
    assert open_video(frames(5, (32, 32)), 1).times == (0,)


def test_only_the_first_picture_is_recorded():
    second = Counted(picture(2))
    item, seen = record_picture(Item(images=(picture(1), second)))
    assert item.images[1] is second
    seen.media()
    assert second.loads == 0


def test_the_error_of_an_unreadable_picture_is_kept(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    item, seen = record_picture(item_of(tmp_path / "a.png"))
    assert seen.error is None
    with pytest.raises(MediaError, match=r"a\.png"):
        item.images[0].load()
    assert "a.png" in str(seen.error)
    with pytest.raises(MediaError):
        seen.media()
    with pytest.raises(MediaError, match="without a picture"):
        record_picture(Item("words alone"))


def test_ids_follow_the_content(tmp_path):
    picture(1).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.png")
    picture(2).save(tmp_path / "c.png")
    write_pdf(tmp_path / "d.pdf", 2)
    write_video(tmp_path / "e.mp4")
    items = {
        name: item_of(value)
        for name, value in {
            "text": "words",
            "a": tmp_path / "a.png",
            "c": tmp_path / "c.png",
            "pixels": picture(1),
            "others": picture(2),
            "captioned": {"text": "words", "image": tmp_path / "a.png"},
            "two": {"image": [tmp_path / "a.png", tmp_path / "c.png"]},
            "turned": {"image": [tmp_path / "c.png", tmp_path / "a.png"]},
            "asked": {"image": tmp_path / "a.png", "instruction": "Find the square."},
            "page": PdfPageImage(tmp_path / "d.pdf", 1),
            "next": PdfPageImage(tmp_path / "d.pdf", 2),
            "video": tmp_path / "e.mp4",
            "clip": VideoFile(tmp_path / "e.mp4", start=1),
            "frames": frames(3, (32, 32)),
            "fewer": frames(2, (32, 32)),
        }.items()
    }
    ids = {name: content_id(item) for name, item in items.items()}
    assert len(set(ids.values())) == len(ids)
    assert all(len(id) == 16 for id in ids.values())
    assert content_id(item_of(tmp_path / "b.png")) == ids["a"], "the same bytes elsewhere"
    assert content_id(item_of(ImageFile(tmp_path / "a.png"))) == ids["a"]
    assert content_id(item_of(picture(1))) == ids["pixels"]
    assert content_id(item_of(Counted(picture(1)))) == ids["pixels"]


def test_where_an_item_comes_from(tmp_path):
    path = tmp_path / "a.png"
    assert place_of(item_of(path)) == (str(path), None)
    assert place_of(item_of(PdfPageImage(tmp_path / "d.pdf", 3))) == (str(tmp_path / "d.pdf"), 3)
    assert place_of(item_of(tmp_path / "e.mp4")) == (str(tmp_path / "e.mp4"), None)
    assert place_of(item_of(picture())) == (None, None)
    assert place_of(item_of({"image": [path, path]})) == (None, None), "one place cannot name two files"
    assert kind_of(item_of(PdfPageImage(path, 3))) == "page"
    assert kind_of(item_of(path)) == "image"
    assert kind_of(item_of(frames(1))) == "video"


def test_sound_keeps_its_seconds_and_has_no_thumbnail(tmp_path):
    path = write_wav(tmp_path / "a.wav", tones(440, 880))
    item, seen = record_picture(Item(audio=SoundFile(path, 0.5, 2)))
    assert (seen.media().kind, seen.media().times) == ("audio", (0.5, 2.0))
    assert item.audio.sound(16_000, 1).seconds == 1
    media = seen.media()
    assert (media.kind, media.times, media.width, media.thumbnail()) == ("audio", (0.5, 1.5), None, b"")
    assert place_of(item_of(path)) == (str(path), None)
    _, whole = record_picture(item_of(path))
    assert whole.media().times == (), "not decoded only to be described"
    _, broken = record_picture(Item(audio=tmp_path / "none.wav"))
    with pytest.raises(MediaError, match="no such file"):
        record_picture(Item(audio=broken))[0].audio.sound(16_000, 1)
    assert "no such file" in str(broken.error)


def test_ids_of_sound_follow_its_content(tmp_path):
    path = write_wav(tmp_path / "a.wav", tones(440, 880))
    ids = [
        content_id(Item(audio=sound))
        for sound in (
            path, SoundFile(path, 0, 1), SoundFile(path, 1, 2), Sound(tones(440), 16_000), Sound(tones(440), 8_000),
        )
    ]  # fmt: skip
    assert len(set(ids)) == 5
    assert content_id(Item(audio=write_wav(tmp_path / "b.wav", tones(440, 880)))) == ids[0]
    assert content_id(Item("words", audio=path)) != ids[0]
