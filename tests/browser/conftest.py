"""A browser, and a server over small indexes; only with ``--chromium``, as ``make test-browser`` runs these tests."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from fixtures.in_browser import HOSTILE, MANUAL, NOTES, running
from fixtures.tiny_models import TEXTS
from fixtures.tiny_pdf import Text, lines, tiny_pdf

from smart_retrieval.demo.glyph_pages import glyph_collection
from smart_retrieval.index.smart_index import SmartIndex

HERE = Path(__file__).parent

# Chromium says so where somebody, such as a fast test, was in another field before it focused the first one.
LATE = "Autofocus processing was blocked"


def pytest_collection_modifyitems(config, items):
    """Skip what nobody gave a browser for."""
    if config.getoption("--chromium") is None:
        mark = pytest.mark.skip(reason="it needs a browser: make test-browser")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(mark)


@pytest.fixture(scope="session")
def indexes(tmp_path_factory, minilm, smart):
    """``notes`` of texts and a PDF, ``shapes`` of pictures, ``many`` of 230 texts."""
    home = tmp_path_factory.mktemp("browser")
    folder = home / "files"
    for name, text in NOTES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    pages = [
        [Text(f"Chapter {number}: {title}", 740, size=18), *lines(*body, top=700, leading=18)]
        for number, (title, body) in enumerate(MANUAL, 1)
    ]
    (folder / "manual.pdf").write_bytes(tiny_pdf(pages))
    with SmartIndex.create(home / "notes.smart", minilm) as index:
        index.index_folder(folder)
        index.add(
            ["Release 4.2 rotates log files without a restart."], ids=["release"],
            metadata=[{"year": 2026, "tags": ["release", "logging"]}], sources=["https://example.org/releases/4.2"],
            headings=["What is new"],
        )  # fmt: skip
    from smart_retrieval import SmartModel

    shapes = home / "shapes"
    shapes.mkdir()
    for page in glyph_collection("test", 24).pages:
        page.image().save(shapes / f"{page.id}.png")
    with SmartIndex.create(home / "shapes.smart", SmartModel("glyph"), files_as="pages") as index:
        index.index_folder(shapes)
    with SmartIndex.create(home / "many.smart", smart("mean", preset="paper"), codec="float32") as index:
        index.add([HOSTILE], ids=["<b>hostile</b>"], metadata=[{"<i>key</i>": "<script>alert(1)</script>"}])
        index.add([f"{TEXTS[number % len(TEXTS)]} {number}" for number in range(230)])
    return home


@pytest.fixture(scope="session")
def address(indexes):
    """A server without tokens."""
    with running([indexes / f"{name}.smart" for name in ("notes", "shapes", "many")]) as address:
        yield address


@pytest.fixture(scope="session")
def chromium(request):
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=request.config.getoption("--chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium, address):
    """``browse(path, **options)``: a page in a window of its own; what its console says is an error of the test."""
    contexts, said = [], []

    def browse(path="/", *, at=None, expected=(), **options):
        options.setdefault("viewport", {"width": 1000, "height": 760})
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on(
            "console",
            lambda one: said.append(one.text) if not any(part in one.text for part in (*expected, LATE)) else 0,
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.goto((at or address) + path)
        return page

    yield browse
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def keep(request):
    """``keep(page, name)``: write a picture for the documentation, if that was asked for."""

    def keep(page, name):
        if request.config.getoption("--screenshots"):
            from PIL import Image

            page.wait_for_timeout(300)
            image = Image.open(BytesIO(page.screenshot())).convert("RGB")
            target = HERE.parents[1] / "docs" / "images" / f"page_{name}.png"
            image.quantize(256).save(target, optimize=True)

    return keep
