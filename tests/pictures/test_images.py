"""Pictures: every mode, orientation and format to the same RGB; and every way a picture can be unreadable."""

from __future__ import annotations

import random
import struct
import sys
import threading
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, features
from PIL import ImageFile as PillowFile
from PIL.Image import Transpose

from smart_retrieval.errors import MediaError, MissingExtraError
from smart_retrieval.files import UnreadableFileError
from smart_retrieval.pictures.images import ImageFile, as_rgb, count_image_pages, image_size, load_image
from smart_retrieval.pictures.sources import IMAGE_SUFFIXES, ImageSource

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Four different quarters, so that each of the eight orientations is another picture."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill=RED)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=BLUE)
    return image


def photo(width: int = 96, height: int = 64) -> Image.Image:
    """Noise over a ramp: compresses badly, so that a cut hits pixels."""
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    ramp = np.linspace(0, 190, width)[None, :, None]
    return Image.fromarray((noise + ramp).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: Pillow does not write 16 bits a channel in colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    transparency = chunk(b"tRNS", extra) if extra else b""
    rows = len(raw) // height if height else 0
    lines = b"".join(b"\0" + raw[row * rows : (row + 1) * rows] for row in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + transparency
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    width, height = image.size
    places = [(2, 2), (width - 3, 2), (2, height - 3), (width - 3, height - 3)]
    return [image.getpixel(place) for place in places]  # type: ignore[misc]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_lossless_formats_come_back_as_they_were(tmp_path: Path, format: str) -> None:
    path = tmp_path / "picture.bin"  # the name says nothing: the bytes decide
    path.write_bytes(encoded(photo(), format, **({"lossless": True} if format == "WEBP" else {})))
    loaded = load_image(path)
    assert np.array_equal(pixels(loaded), pixels(photo()))
    assert np.array_equal(pixels(load_image(path.read_bytes())), pixels(photo()))
    assert loaded.info == {}
    assert type(loaded) is Image.Image
    assert image_size(path) == loaded.size


def test_jpeg_and_multi_picture_jpeg(tmp_path: Path) -> None:
    data = encoded(quarters(), "JPEG", quality=95)
    assert np.abs(pixels(load_image(data)) - pixels(quarters())).mean() < 3
    stereo = encoded(quarters(), "MPO", save_all=True, append_images=[photo()], quality=95)
    assert np.abs(pixels(load_image(stereo)) - pixels(quarters())).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(format: str, orientation: int) -> None:
    # What a camera stores so that, turned by `orientation`, `quarters` comes out.
    stored = {
        1: None,
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_90,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_270,
    }[orientation]
    image = quarters() if stored is None else quarters().transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    data = encoded(image, format, exif=exif, **options)
    upright = load_image(data)
    assert upright.size == quarters().size == image_size(data)
    assert np.abs(pixels(upright) - pixels(quarters())).mean() < 3
    with Image.open(BytesIO(data)) as opened:
        assert np.array_equal(pixels(as_rgb(opened)), pixels(upright))


def test_orientation_is_not_applied_to_what_was_made_from_a_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(BytesIO(encoded(quarters(), "PNG", exif=exif))) as opened:
        half = opened.resize((32, 24))
    assert as_rgb(half).size == (32, 24)


@pytest.mark.parametrize("value", [b"not exif", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_loses_only_the_rotation(value: bytes) -> None:
    data = encoded(quarters(), "JPEG", quality=95, exif=value)
    assert load_image(data).size == (64, 48)
    assert image_size(data) == (64, 48)


def test_transparent_pixels_become_white() -> None:
    image = quarters().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 32, 24))
    alpha.paste(128, (32, 0, 64, 24))
    image.putalpha(alpha)
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        found = corners(load_image(encoded(image, format, **options)))
        assert found[0] == WHITE
        assert np.allclose(found[1], (127, 191, 127), atol=1)
        assert found[2:] == [BLUE, WHITE]
    grey = Image.merge("LA", (Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 0)))
    assert load_image(encoded(grey, "PNG")).getpixel((0, 0)) == WHITE


def test_palettes_with_and_without_transparency() -> None:
    palette = quarters().quantize(4)
    assert corners(load_image(encoded(palette, "PNG"))) == [RED, GREEN, BLUE, WHITE]
    assert corners(load_image(encoded(palette, "BMP"))) == [RED, GREEN, BLUE, WHITE]
    index = palette.getpixel((0, 0))
    assert corners(load_image(encoded(palette, "PNG", transparency=index))) == [WHITE, GREEN, BLUE, WHITE]
    shades = bytes(128 if entry == index else 255 for entry in range(4))
    assert np.allclose(corners(load_image(encoded(palette, "PNG", transparency=shades)))[0], (255, 127, 127), atol=1)
    assert corners(load_image(encoded(palette, "GIF", transparency=index))) == [WHITE, GREEN, BLUE, WHITE]
    assert corners(as_rgb(palette)) == [RED, GREEN, BLUE, WHITE]


def test_first_frame_and_first_page() -> None:
    first, second = quarters(), Image.new("RGB", (64, 48), (0, 0, 0))
    for format in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(first, format, save_all=True, append_images=[second], **options)
        assert corners(load_image(data)) == [RED, GREEN, BLUE, WHITE]


def test_grey_black_and_white_cmyk_and_other_modes() -> None:
    ramp = Image.linear_gradient("L")
    assert np.array_equal(pixels(load_image(encoded(ramp, "PNG")))[..., 1], np.asarray(ramp))
    assert set(np.unique(pixels(load_image(encoded(ramp.convert("1"), "TIFF"))))) == {0, 255}
    # JPEG stores CMYK inverted where Adobe's marker is: red must not come out cyan.
    for format in ("JPEG", "TIFF"):
        cmyk = load_image(encoded(quarters().convert("CMYK"), format, **({"quality": 95} if format == "JPEG" else {})))
        assert np.abs(pixels(cmyk) - pixels(quarters())).mean() < 4
    for mode in ("YCbCr", "HSV", "RGBX", "RGBa", "La", "1", "L"):
        source = quarters().convert("RGBA").convert(mode) if mode == "RGBa" else quarters()
        image = quarters().convert("LA").convert("La") if mode == "La" else source.convert(mode)
        assert as_rgb(image).mode == "RGB"
    assert np.allclose(corners(as_rgb(quarters().convert("HSV")))[:1], [RED], atol=3)
    assert np.allclose(as_rgb(Image.new("LAB", (4, 4), (255, 128, 128))).getpixel((0, 0)), WHITE, atol=2)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16)[None].repeat(4, axis=0)
    expected = np.rint(ramp / 257).astype(int)
    path = tmp_path / "a.png"
    Image.fromarray(ramp).save(path)
    tiff = encoded(Image.fromarray(ramp), "TIFF")
    big = png(256, 4, 16, 0, ramp.astype(">u2").tobytes())
    for source in (path, tiff, encoded(Image.fromarray(ramp), "TIFF", compression="tiff_lzw"), big):
        assert np.array_equal(pixels(load_image(source))[..., 0], expected)
    colour = np.stack([ramp, ramp[:, ::-1], ramp * 0 + 32_896], -1)
    loaded = pixels(load_image(png(256, 4, 16, 2, colour.astype(">u2").tobytes())))
    assert np.abs(loaded - colour / 257).max() <= 1
    assert np.array_equal(pixels(as_rgb(Image.fromarray(ramp.astype(np.int32))))[..., 0], expected)
    assert np.array_equal(pixels(as_rgb(Image.fromarray((ramp / 65_535).astype(np.float32))))[..., 0], expected)
    for wrong in (
        np.full((2, 2), -1, np.int32),
        np.full((2, 2), 70_000, np.int32),
        np.full((2, 2), np.nan, np.float32),
    ):
        with pytest.raises(MediaError, match="32 bits"):
            as_rgb(Image.fromarray(wrong))


def test_sixteen_bits_with_a_transparent_colour() -> None:
    grey = np.array([[0, 1000, 65_535, 1001]], ">u2")
    found = pixels(load_image(png(4, 1, 16, 0, grey.tobytes(), struct.pack(">H", 1000))))[0, :, 0]
    assert list(found) == [0, 255, 255, 4]
    colour = np.array([[[65_535, 0, 0], [0, 0, 65_535]]], ">u2")
    data = png(2, 1, 16, 2, colour.tobytes(), struct.pack(">HHH", 65_535, 0, 0))
    assert [load_image(data).getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLUE]


def test_twelve_bits_and_white_is_zero_in_tiff() -> None:
    tags: dict[int, Any] = {262: 0}
    data = encoded(Image.fromarray(np.array([[0, 65_535]], np.uint16)), "TIFF", tiffinfo=tags)
    with Image.open(BytesIO(data)) as check:
        assert check.tag_v2[262] == 0
    assert list(pixels(load_image(data))[0, :, 0]) == [255, 0]


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("BMP", {}),
    ],
)
def test_pictures_that_are_cut_off_are_refused(tmp_path: Path, format: str, options: dict[str, Any]) -> None:
    data = encoded(photo(), format, **options)
    whole = pixels(load_image(data))
    path = tmp_path / "cut"
    refused = 0
    cuts = sorted({*range(0, 64, 7), *(len(data) * part // 23 for part in range(23)), len(data) - 1, len(data) - 40})
    for cut in cuts:
        path.write_bytes(data[:cut])
        try:
            loaded = load_image(path)
        except MediaError:
            refused += 1
        else:
            # A missing last marker costs no pixel: the picture is whole, or none.
            assert np.array_equal(pixels(loaded), whole), f"cut at {cut} of {len(data)}"
    assert refused >= len(cuts) - 4


def test_load_truncated_images_set_by_another_library_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PillowFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(photo(), "JPEG")
    results: list[bool] = []

    def attempt() -> None:
        for _ in range(20):
            try:
                load_image(data[: len(data) // 2])
                results.append(False)
            except MediaError:
                results.append(True)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80
    assert PillowFile.LOAD_TRUNCATED_IMAGES is True


def test_random_damage_raises_media_errors_only() -> None:
    chance = random.Random(0)
    for format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(photo(32, 24), format)
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(chance.randint(1, 6)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            try:
                assert load_image(bytes(broken), max_pixels=1_000_000).mode == "RGB"
            except MediaError:
                continue


def test_bombs_are_refused_by_their_header(monkeypatch: pytest.MonkeyPatch) -> None:
    small, strip = (encoded(Image.new("L", size), "PNG") for size in ((11, 10), (2001, 10)))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(PillowFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    row = bytes(30_000)
    with pytest.raises(MediaError, match="more than 80,000,000 pixels"):
        load_image(png(30_000, 30_000, 8, 0, row)[:200])
    with pytest.raises(MediaError, match=r"more than 100 pixels \(11 x 10\)"):
        load_image(small, max_pixels=100)
    with pytest.raises(MediaError, match="more than 200 times as long as wide"):
        load_image(strip)
    with pytest.raises(MediaError, match="more than 100 pixels"):
        as_rgb(Image.new("L", (11, 10)), max_pixels=100)
    with pytest.raises(MediaError, match="without pixels"):
        as_rgb(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, I am no picture",
        b"%PDF-1.4\n",
        b"#EXTM3U\nhttp://localhost/a.ts",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        png(0, 0, 8, 0, b""),
        encoded(quarters(), "PPM"),
        encoded(quarters(), "ICO"),
    ],
)
def test_other_formats_are_not_tried(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"cannot read .*a\.png"):
        load_image(path)


def test_missing_files_folders_and_pipes(tmp_path: Path) -> None:
    import os

    with pytest.raises(MediaError, match="no such file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(MediaError, match=r"directory|regular"):
        load_image(tmp_path)
    with pytest.raises(MediaError, match="not the name of a file"):
        load_image(Path("a\0b.png"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MediaError, match="not a regular file"):
        load_image(tmp_path / "pipe.png")


def test_as_rgb_keeps_what_is_rgb_and_names_the_file_of_a_lazy_picture(tmp_path: Path) -> None:
    image = quarters()
    assert as_rgb(image) is image
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded(photo(), "JPEG")[:900])
    with Image.open(path) as opened, pytest.raises(MediaError, match=r"cut\.jpg: cut off"):
        as_rgb(opened)


def test_a_colour_profile_is_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert corners(load_image(encoded(quarters(), "PNG", icc_profile=profile))) == [RED, GREEN, BLUE, WHITE]


def test_an_image_file_is_a_source_and_opened_when_loaded(tmp_path: Path) -> None:
    source = ImageFile(tmp_path / "a.png")
    assert isinstance(source, ImageSource)
    quarters().save(tmp_path / "a.png")
    assert corners(source.load()) == [RED, GREEN, BLUE, WHITE]
    with pytest.raises(MediaError, match="more than 10 pixels"):
        ImageFile(tmp_path / "a.png", max_pixels=10).load()
    assert {".png", ".jpeg", ".webp", ".gif", ".tiff", ".bmp"} <= IMAGE_SUFFIXES


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[image\]"):
        load_image(b"x")


def test_pillow_of_this_machine_reads_all_formats() -> None:
    assert features.check("webp")
    assert features.check("libtiff")


def tiled_tiff(side: int) -> bytes:
    """A TIFF of 16 x 16 pixels in one tile of a larger size, which compresses to almost nothing."""
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 325: len(pixels)}
    offset = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted({**tags, 324: offset}.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags) + 1) + b"".join(entries) + bytes(4) + pixels


def test_tiles_far_larger_than_their_picture_are_refused() -> None:
    assert load_image(tiled_tiff(1024)).size == (16, 16)
    with pytest.raises(MediaError, match=r"tiles of an implausible size \(8192 x 8192\)"):
        load_image(tiled_tiff(8192))


def test_a_jpeg_that_draws_over_itself_without_end_is_refused() -> None:
    data = encoded(photo(), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert load_image(data[:-2] + last * 20 + data[-2:]).size == (96, 64)
    with pytest.raises(MediaError, match=r"implausibly many scans \(2,0"):
        load_image(data[:-2] + last * 2000 + data[-2:])
    assert load_image(encoded(photo(), "JPEG") + b"\xff\xda" * 2000).size == (96, 64)  # what follows is not a scan


def test_pages_of_a_tiff_and_no_others() -> None:
    pages = [Image.new("RGB", (20, 10 + number), (number, 0, 0)) for number in range(3)]
    buffer = BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    data = buffer.getvalue()
    assert count_image_pages(data) == 3
    assert [load_image(data, page=page).size for page in (1, 2, 3)] == [(20, 10), (20, 11), (20, 12)]
    with pytest.raises(UnreadableFileError):
        load_image(data, page=4)
    moving = BytesIO()
    pages[0].save(moving, "GIF", save_all=True, append_images=pages[1:])
    assert count_image_pages(moving.getvalue()) == 1
    with pytest.raises(UnreadableFileError, match="not a picture"):
        count_image_pages(b"II*\0")
