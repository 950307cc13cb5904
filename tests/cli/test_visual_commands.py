"""smart index --as, search --image, explain to a page or a PNG, info: with a model that sees."""

from base64 import b64decode
from io import BytesIO

import pytest
from fixtures.commands import loaded, run
from fixtures.pictures import media_folder, picture
from fixtures.tiny_sound import tones, write_wav
from PIL import Image

from smart_retrieval.errors import IndexMismatchError, MediaError, SmartError, UnsupportedModelError

LIMITS = ("--max-visual-tokens", 48, "--max-frames", 6)


@pytest.fixture(scope="module")
def model(tiny_vlm):
    return str(tiny_vlm("qwen3-vl-embedding"))


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = media_folder(tmp_path_factory.mktemp("visual") / "docs")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def built(docs, model):
    path = docs.parent / "docs.smart"
    result = run(
        "index", docs, "--index", path, "--model", model, "--as", "auto", *LIMITS, "--codec", "float32", "--json"
    )
    return path, loaded(result)


def test_auto_makes_pages_of_files_and_names_what_is_broken(built):
    _, report = built
    assert (report["passages"], report["pictures"], report["files"]["failed"]) == (7, 6, 1)
    assert report["skipped"][0]["files"][0]["path"] == "broken.png"


def test_the_second_run_needs_no_options(built, docs):
    result = run("index", docs, "--index", built[0])
    assert result.exit_code == 0, result.output
    assert "0 added, 5 unchanged, 1 failed" in result.stdout
    assert "broken.png" in result.stdout


def test_another_mode_or_limit_is_a_named_error(built, docs):
    for options in (["--as", "text"], ["--max-visual-tokens", 50], ["--max-frames", 2]):
        assert isinstance(run("index", docs, "--index", built[0], *options).exception, IndexMismatchError)


def test_pooling_is_the_models_and_token_pooling_the_indexs(docs, tiny, tiny_vlm, tmp_path):
    bare = tiny_vlm("bare-qwen2")
    found = run("index", docs, "--index", tmp_path / "bare", "--model", bare).exception
    assert "pooling= one of lasttoken" in str(found)
    made = ("index", docs, "--index", tmp_path / "bare", "--max-visual-tokens", 16)
    assert run(*made, "--model", bare, "--pooling", "mean").exit_code == 0
    assert run(*made, "--pooling", "mean").exit_code == 0
    assert "found pooling mean, asked for lasttoken" in str(run(*made, "--pooling", "lasttoken").exception)
    for option in ("--token-pooling", "--pooling"):  # the latter as in version 0.1.0
        new = tmp_path / option.strip("-")
        assert run("index", docs, "--index", new, "--model", tiny("mean"), option, 2).exit_code == 0
        assert loaded(run("info", new, "--json"))["pooling"] == 2
        found = run("index", docs, "--index", new, option, 3).exception
        assert "found token pooling 2, asked for 3" in str(found)


def test_text_mode_with_a_model_that_takes_images(docs, model, tmp_path):
    path = tmp_path / "t.smart"
    report = loaded(
        run("index", docs, "--index", path, "--model", model, "--as", "text", "--codec", "float16", "--json")
    )
    assert report["pictures"] == 0
    assert "files as" in run("info", path).stdout


def test_pages_need_a_model_that_takes_images(docs, tiny, tmp_path):
    result = run("index", docs, "--index", tmp_path / "x.smart", "--model", tiny("mean"), "--as", "pages")
    assert isinstance(result.exception, UnsupportedModelError)
    assert not (tmp_path / "x.smart").exists()
    result = run("index", docs, "--index", tmp_path / "x.smart", "--model", tiny("mean"), "--max-frames", 3)
    assert isinstance(result.exception, UnsupportedModelError)


def test_info_echoes_mode_limits_and_kinds(built):
    found = loaded(run("info", built[0], "--json"))
    assert found["files_as"] == "pages"
    assert found["pictures"] == {"image": 2, "page": 3, "video": 1}
    assert (found["model"]["max_visual_tokens"], found["model"]["max_frames"]) == (48, 6)
    text = " ".join(run("info", built[0]).stdout.split())
    assert "2 images, 3 pages, 1 video" in text
    assert "files as pages" in text
    assert "at most 48 tokens a picture, 6 frames a video" in text


def test_hits_have_a_location_and_a_kind(built):
    lines = run("search", built[0], "a red square").stdout.splitlines()
    text = "\n".join(lines)
    assert "report.pdf p. 2  (page)" in text
    assert "scans/one.png  (image)" in text
    assert "clip.mp4  (video)" in text
    assert "notes.txt#0" in text


def test_a_terminal_shades_text_hits_only(built, monkeypatch):
    monkeypatch.setattr("smart_retrieval.cli.search.on_terminal", lambda: True)
    result = run("search", built[0], "the otter swims in the river")
    assert result.exit_code == 0, result.output
    assert "(page)" in result.stdout


def test_search_by_picture(built, docs):
    found = loaded(run("search", built[0], "--image", docs / "scans" / "two.jpg", "-k", 1, "--json"))
    assert (found["query"], found["image"]) == ("", str(docs / "scans" / "two.jpg"))
    (hit,) = found["hits"]
    assert (hit["id"], hit["kind"], hit["media"]["width"]) == ("scans/two.jpg#image", "image", 160)
    assert "thumbnail" not in hit["media"]
    both = loaded(run("search", built[0], "red", "--image", docs / "scans" / "two.jpg", "--json", "--thumbnails"))
    assert both["query"] == "red"
    thumbnails = {hit["id"]: hit["media"]["thumbnail"] for hit in both["hits"] if hit["media"]}
    assert len(thumbnails) == 6
    assert all(Image.open(BytesIO(b64decode(data))).format == "JPEG" for data in thumbnails.values())


def test_sound_is_skipped_and_refused_by_a_model_that_reads_none(built, model, tmp_path):
    (tmp_path / "docs").mkdir()
    sound = write_wav(tmp_path / "docs" / "a.wav", tones(440))
    report = loaded(run("index", tmp_path / "docs", "--index", tmp_path / "i.smart", "--model", model, "--json"))
    assert [entry["reason"] for entry in report["skipped"]] == ["the model reads no sound"]
    assert report["files"]["failed"] == 0
    for command in (("search", built[0]), ("explain", built[0], "", "scans/one.png#image")):
        refused = run(*command, "--audio", sound).exception
        assert isinstance(refused, UnsupportedModelError)
        assert "found an input with audio, expected image or text" in str(refused)


def test_pages_are_grouped_by_document(built):
    found = loaded(run("search", built[0], "a page", "--group-by", "file", "-k", 5, "--json", "--thumbnails"))
    groups = {group["source"]: [hit["page"] for hit in group["hits"]] for group in found["groups"]}
    assert sorted(groups["report.pdf"]) == [1, 2, 3]
    assert groups["clip.mp4"] == [None]
    assert found["groups"][0]["hits"][0]["media"] is None or found["groups"][0]["hits"][0]["media"]["thumbnail"]
    text = run("search", built[0], "a page", "--group-by", "file").stdout
    assert "p. 3  (page)" in text


@pytest.mark.parametrize("id", ["report.pdf#page=2", "clip.mp4#video"])
def test_explain_writes_a_page_a_png_and_json(built, tmp_path, id):
    arguments = ("explain", built[0], "the red square", id)
    page, png = tmp_path / "why.html", tmp_path / "why.PNG"
    assert run(*arguments, "--out", page).stdout == f"wrote {page}\n"
    assert "data:image/png;base64," in page.read_text(encoding="utf-8")
    assert run(*arguments, "--out", png).exit_code == 0
    assert Image.open(BytesIO(png.read_bytes())).format == "PNG"
    found = loaded(run(*arguments, "--json"))
    assert found["visual"]["kind"] in ("page", "video")
    assert len(found["visual"]["maps"][0]["rows"]) == len(found["visual"]["rows"])
    shown = run(*arguments).stdout
    assert "of the late score" in shown
    assert ("best frames: " in shown) == (id == "clip.mp4#video")


def test_explain_a_query_that_is_a_picture(built, docs, tmp_path):
    arguments = ("explain", built[0], "", "scans/one.png#image", "--image", docs / "scans" / "one.png")
    assert "[picture] × 20" in run(*arguments).stdout
    assert run(*arguments, "--out", tmp_path / "a.html").exit_code == 0
    assert run("explain", built[0], "", "scans/one.png#image").exit_code == 2


def test_explain_where_the_folder_was_moved(docs, model, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    loaded(
        run("index", folder, "--index", tmp_path / "i.smart", "--model", model, *LIMITS, "--codec", "float16", "--json")
    )
    folder.rename(tmp_path / "moved")
    arguments = ("explain", tmp_path / "i.smart", "red", "a.png#image", "--out", tmp_path / "a.html")
    assert run(*arguments).exit_code == 0
    assert "thumbnail that the index keeps" in (tmp_path / "a.html").read_text()
    assert run(*arguments, "--root", tmp_path / "moved").exit_code == 0
    assert "thumbnail that the index keeps" not in (tmp_path / "a.html").read_text()


def test_a_png_of_text_and_a_picture_that_is_none_are_named_errors(built, docs, tmp_path):
    result = run("explain", built[0], "otter", "notes.txt#0", "--out", tmp_path / "a.png")
    assert isinstance(result.exception, SmartError)
    assert not (tmp_path / "a.png").exists()
    assert isinstance(run("search", built[0], "--image", docs / "broken.png").exception, MediaError)


def test_wrong_usage_is_status_2(built, tmp_path):
    for wrong in (
        ["search", built[0]],
        ["search", built[0], "--image", tmp_path / "nowhere.png"],
        ["index", tmp_path, "--index", tmp_path / "x.smart", "--as", "markdown"],
        ["index", tmp_path, "--index", tmp_path / "x.smart", "--as", "text", "--as", "pages"],
        ["index", tmp_path, "--index", tmp_path / "x.smart", "--as", ".png=pages"],
        ["index", tmp_path, "--index", tmp_path / "x.smart", "--max-frames", 0],
    ):
        result = run(*wrong)
        assert result.exit_code == 2, result.output
    assert not (tmp_path / "x.smart").exists()


def test_formats_by_suffix_still_work(model, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.conf").write_text("The otter swims.")
    (tmp_path / "docs" / "b.ini").write_text("The moon is cold.")
    one = loaded(
        run("index", tmp_path / "docs", "--index", tmp_path / "1", "--model", model, "--as", ".CONF=text", "--json")
    )
    assert one["files"]["added"] == 1
    two = loaded(
        run(
            "index",
            tmp_path / "docs",
            "--index",
            tmp_path / "2",
            "--model",
            model,
            "--as",
            "*=text",
            "--as",
            "text",
            "--json",
        )
    )
    assert two["files"]["added"] == 2
