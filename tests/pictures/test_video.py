"""Video frames: the right ones, at the right times, upright, in little memory; and what is refused."""

from __future__ import annotations

import os
import socket
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smart_retrieval.errors import MediaError, MissingExtraError
from smart_retrieval.inputs import item_of
from smart_retrieval.pictures import video as video_module
from smart_retrieval.pictures import video_stream
from smart_retrieval.pictures.sources import VIDEO_SUFFIXES, VideoSource
from smart_retrieval.pictures.video import VideoFile, pick_frames, read_frames

av = pytest.importorskip("av")

from fixtures.tiny_video import number_of, tiny_video  # noqa: E402

KINDS = [
    ("a.mp4", "libx264"),
    ("a.mov", "mpeg4"),
    ("a.mkv", "libx264"),
    ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4"),
    ("b.avi", "libx264"),
    ("a.mpg", "mpeg2video"),
    ("a.m2ts", "libx264"),
    ("a.flv", "flv"),
    ("a.wmv", "wmv2"),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two seconds in each kind of container. Read-only."""
    folder = tmp_path_factory.mktemp("videos")
    for name, codec in KINDS:
        options = {"deadline": "realtime", "cpu-used": "8"} if "vp9" in codec else {}
        tiny_video(folder / name, codec=codec, options=options)
    return folder


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_frames_and_times_in_every_container(videos: Path, name: str, codec: str) -> None:
    path = videos / name
    assert path.suffix in VIDEO_SUFFIXES
    every = read_frames(path, max_frames=1000)
    assert [number_of(image) for image in every.images] == list(range(50))
    assert every.times == pytest.approx([number / 25 for number in range(50)], abs=1e-3)
    for count in (1, 2, 7, 49):
        some = read_frames(path, max_frames=count)
        expected = np.linspace(0, 49, count).astype(int)
        assert [number_of(image) for image in some.images] == list(expected)
        assert some.times == pytest.approx(expected / 25, abs=1e-3)
        # However it was reached, by seeking or by decoding on, a frame is the same picture.
        for image, number in zip(some.images, expected, strict=True):
            assert np.array_equal(np.asarray(image), np.asarray(every.images[number]))
    assert {image.size for image in some.images} == {(160, 64)}
    assert {image.mode for image in some.images} == {"RGB"}


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_clips(videos: Path, name: str, codec: str) -> None:
    clip = read_frames(videos / name, max_frames=100, start=0.81, end=1.6)
    # The frame on display when the clip begins was shown at 0.8.
    assert [number_of(image) for image in clip.images] == list(range(20, 41))
    assert clip.times[0] == pytest.approx(0.8)
    source = VideoFile(videos / name, start=1.2)
    assert isinstance(source, VideoSource)
    assert [number_of(image) for image in source.frames(2).images] == [30, 49]
    assert [number_of(image) for image in read_frames(videos / name, max_frames=9, end=0.1).images] == [0, 1, 2]
    # A clip shorter than a frame is the frame on display.
    assert [number_of(image) for image in VideoFile(videos / name, 0.5, 0.51).frames(5).images] == [12]


def test_frames_a_second_bounded_by_the_number_of_frames(videos: Path) -> None:
    path = videos / "a.mp4"
    assert [number_of(image) for image in read_frames(path, max_frames=64, fps=5).images] == list(range(0, 50, 5))
    assert [number_of(image) for image in read_frames(path, max_frames=64, fps=0.1).images] == [0]
    assert [number_of(image) for image in read_frames(path, max_frames=3, fps=5).images] == [0, 24, 49]
    assert len(read_frames(path, max_frames=64, fps=1e9).images) == 50
    assert len(VideoFile(path, fps=1000).frames(64).images) == 50


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=60),
    st.integers(1, 70),
    st.none() | st.fractions(Fraction(1, 10_000), Fraction(1, 2)),
)
def test_picked_frames_are_those_on_display(gaps: list[int], most: int, rate: Fraction | None) -> None:
    ticks = list(np.cumsum(gaps).tolist())
    picked = pick_frames(ticks, most, rate)
    assert picked == sorted(set(picked))
    assert set(picked) <= set(ticks)
    assert 1 <= len(picked) <= most
    assert picked[0] == ticks[0]
    if rate is None:
        assert picked == ticks if len(ticks) <= most else most == 1 or picked[-1] == ticks[-1]
        if most > 1 and len(ticks) > most:
            moments = [ticks[0] + Fraction((ticks[-1] - ticks[0]) * step, most - 1) for step in range(most)]
            naive = {max(tick for tick in ticks if tick <= moment) for moment in moments}
            assert set(picked) == naive


def test_variable_frame_rate(tmp_path: Path) -> None:
    ticks = [0, 10, 20, 30, 1000, 1010, 2000, 5000, 5010, 6000]
    for name in ("a.mkv", "a.mp4"):
        path = tiny_video(tmp_path / name, 10, ticks=ticks, time_base=Fraction(1, 1000), options={"bf": "0"})
        frames = read_frames(path, max_frames=4)
        # Moments 0, 2, 4, 6 s: at 4 s the frame of 2 s is still on display.
        assert [number_of(image) for image in frames.images] == [0, 6, 9]
        assert frames.times == pytest.approx((0, 2, 6), abs=2e-3)
        assert read_frames(path, max_frames=10).times == pytest.approx([tick / 1000 for tick in ticks], abs=2e-3)
        clip = read_frames(path, max_frames=9, start=3, end=5.005)
        assert [number_of(image) for image in clip.images] == [6, 7]


@pytest.mark.parametrize(("rotation", "corner"), [(0, (20, 4)), (-90, (155, 20)), (90, (8, 140)), (180, (140, 60))])
def test_rotation_is_applied(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    path = tiny_video(tmp_path / "a.mp4", 5, rotation=rotation, size=(160, 160))
    frames = read_frames(path, max_frames=2)
    red, _, blue = frames.images[1].getpixel({0: (20, 8), -90: (150, 20), 90: (8, 140), 180: (140, 150)}[rotation])
    assert red > 200
    assert blue < 60
    tall = tiny_video(tmp_path / "b.mp4", 5, rotation=rotation)
    assert read_frames(tall, max_frames=1).images[0].size == ((64, 160) if rotation in {90, -90} else (160, 64))


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tiny_video(tmp_path / "a.mp4", 3, pixel_ratio=Fraction(3, 2))
    image = read_frames(path, max_frames=1).images[0]
    assert image.size == (240, 64)
    assert number_of(read_frames(path, max_frames=3).images[2]) == 2


def test_large_frames_are_scaled_down(videos: Path) -> None:
    frames = read_frames(videos / "a.mp4", max_frames=3, max_pixels=160 * 64 // 4)
    assert {image.size for image in frames.images} == {(80, 32)}
    assert [number_of(image) for image in frames.images] == [0, 24, 49]


@pytest.mark.parametrize("colorspace", [1, 5])
def test_colours_are_converted_by_the_matrix_the_file_names(tmp_path: Path, colorspace: int) -> None:
    colour = (40, 200, 90)
    path = tiny_video(tmp_path / "a.mp4", 3, solid=colour, colorspace=colorspace, options={"qp": "4"})
    assert read_frames(path, max_frames=1).images[0].getpixel((80, 30)) == pytest.approx(colour, abs=6)


def test_only_the_frames_taken_are_converted_and_long_videos_are_seeked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_video(tmp_path / "a.mp4", 1000, key_every=10, size=(160, 64), options={"preset": "ultrafast"})
    converted = []
    original = video_module._image
    monkeypatch.setattr(video_module, "_image", lambda *args: converted.append(1) or original(*args))
    frames = read_frames(path, max_frames=5)
    assert [number_of(image) for image in frames.images] == [0, 249, 499, 749, 999]
    assert len(converted) == 5
    decoded = []

    class Counting:
        def __init__(self, frames: Any) -> None:
            self.frames = frames

        def __iter__(self) -> Any:
            for frame in self.frames:
                decoded.append(frame.pts)
                yield frame

    from smart_retrieval.pictures import video_stream

    inner = video_stream.VideoStream._frames
    monkeypatch.setattr(video_stream.VideoStream, "_frames", lambda self, tick: iter(Counting(inner(self, tick))))
    read_frames(path, max_frames=5)
    assert len(decoded) < 80


def test_longer_sound_is_allowed_and_cover_art_is_not_a_video(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        path = tiny_video(tmp_path / name, 25, audio_seconds=3)
        assert [number_of(image) for image in read_frames(path, max_frames=3).images] == [0, 12, 24]
    sound = tiny_video(tmp_path / "sound.mp4", 0, audio_seconds=1)
    with pytest.raises(MediaError, match=r"sound\.mp4: no video in it"):
        read_frames(sound, max_frames=3)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(-1, None, "not a clip"), (1, 0.5, "not a clip"), (5, None, "no frame in the clip"), (float("nan"), None, "clip")],
)
def test_invalid_clips_are_refused(videos: Path, start: float, end: float | None, message: str) -> None:
    for name, _ in KINDS:
        with pytest.raises(MediaError, match=message):
            read_frames(videos / name, max_frames=2, start=start, end=end)
    with pytest.raises(MediaError, match="expected at least 1"):
        read_frames(videos / "a.mp4", max_frames=0)
    with pytest.raises(MediaError, match="fps=0"):
        read_frames(videos / "a.mp4", max_frames=1, fps=0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.flv", "fast.mp4"])
def test_a_file_cut_off_is_refused(videos: Path, tmp_path: Path, name: str) -> None:
    whole = videos / name
    if name == "fast.mp4":  # its index comes first, so that it opens however much is missing
        whole = tiny_video(tmp_path / "whole.mp4", container_options={"movflags": "faststart"})
    data = whole.read_bytes()
    path = tmp_path / name
    for share in (0.0, 0.01, 0.3, 0.6):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(MediaError, match=name.replace(".", r"\.")):
            read_frames(path, max_frames=4)


def test_random_damage_raises_media_errors_only(videos: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for name in ("a.mp4", "a.mkv", "a.avi", "a.m2ts"):
        data = np.frombuffer((videos / name).read_bytes(), np.uint8)
        for _ in range(25):
            broken = data.copy()
            broken[chance.integers(0, len(data), chance.integers(1, 30))] = chance.integers(0, 256)
            path = tmp_path / name
            path.write_bytes(broken.tobytes())
            try:
                frames = read_frames(path, max_frames=4)
            except MediaError as error:
                assert name in str(error)  # noqa: PT017
            else:
                assert frames.times == tuple(sorted(frames.times))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hls.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{file}\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n"),
        ("hls.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{file}\n#EXT-X-ENDLIST\n"),
        ("concat.mkv", "ffconcat version 1.0\nfile '{file}'\nfile '{url}'\n"),
        (
            "dash.mov",
            '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
            'bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>\n',
        ),
        ("sdp.avi", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"),
        ("text.mp4", "only words\n" * 40),
        ("rtsp.mov", "RTSPtextRTSP://127.0.0.1:{port}/x\n"),
        ("picture.mp4", "GIF89a"),
        ("empty.webm", ""),
    ],
)
def test_lists_of_other_files_are_refused_and_nothing_is_opened(
    videos: Path, tmp_path: Path, name: str, text: str
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        port = server.getsockname()[1]
        path = tmp_path / name
        path.write_text(text.format(file=videos / "a.mp4", url=f"http://127.0.0.1:{port}/a.mp4", port=port))
        before = (videos / "a.mp4").stat().st_atime_ns
        with pytest.raises(MediaError, match=name.replace(".", r"\.")):
            read_frames(path, max_frames=2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert (videos / "a.mp4").stat().st_atime_ns == before


def test_urls_and_missing_files_are_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("opened"))
    for name in ("http://localhost/a.mp4", "concat:a.mp4|b.mp4", "/no/such.mp4"):
        with pytest.raises(MediaError, match="no such file"):
            read_frames(Path(name), max_frames=1)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="not a regular file"):
        read_frames(tmp_path / "pipe.mp4", max_frames=1)


def test_files_are_closed_and_odd_names_open(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff video.mp4")
    path.write_bytes((videos / "a.mp4").read_bytes())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read_frames(path, max_frames=2)
        with pytest.raises(MediaError):
            read_frames(path, max_frames=2, start=100)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_is_a_video_or_a_picture_by_its_suffix() -> None:
    assert item_of(Path("a.MKV")).video == Path("a.MKV")
    assert item_of(Path("a.gif")).images == (Path("a.gif"),)
    assert ".ts" not in VIDEO_SUFFIXES


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[video\]"):
        read_frames(Path("a.mp4"), max_frames=1)


def test_frames_far_larger_than_the_header_says_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_stream, "MAX_PIXELS", 200 * 200)

    def jpeg(side: int) -> bytes:
        out = BytesIO()
        Image.new("RGB", (side, side)).save(out, "JPEG")
        return out.getvalue()

    for side in (80, 400):
        with av.open(str(tmp_path / "a.avi"), "w") as container:
            stream = container.add_stream("mjpeg", rate=10)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuvj420p"
            for number in range(60):  # the first are read with the header
                packet = av.Packet(jpeg(side if number == 59 else 64))
                packet.stream, packet.is_keyframe = stream, True
                packet.pts = packet.dts = number
                container.mux(packet)
        if side == 80:
            assert len(read_frames(tmp_path / "a.avi", max_frames=2).images) == 2
    with pytest.raises(MediaError, match=r"a\.avi: "):
        read_frames(tmp_path / "a.avi", max_frames=2)
