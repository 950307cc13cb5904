"""A model that reads only what it was made for says so."""

import json
import warnings

import pytest
from PIL import Image
from typer.testing import CliRunner

from smart_retrieval import SmartIndex, SmartModel
from smart_retrieval.cli.main import app
from smart_retrieval.demo.glyph_pages import COLOURS, SHAPES, glyph_page
from smart_retrieval.errors import ReadoutError, SmartWarning
from smart_retrieval.model.purpose import read_purpose


@pytest.fixture(scope="module")
def glyph():
    return SmartModel("glyph", device="cpu")


def test_glyph_knows_colours_and_shapes(glyph, smart):
    assert glyph.purpose.words == {*COLOURS, *SHAPES}
    assert smart("mean").purpose is None
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        glyph.encode_query(["red circle, blue star", "Heart", "lime hourglass 12"])
        # Which encodes queries made of the whole vocabulary.
        glyph.calibrate(glyph.encode_document([glyph_page("test", number).image() for number in range(2)]))


@pytest.mark.parametrize("query", ["invoice total", ["red circle", "the invoice total"], iter(["invoice"])])
def test_words_that_glyph_has_never_seen_are_named(query, glyph):
    with pytest.warns(SmartWarning, match=r"demonstration model of coloured shapes.*never seen these words: .*invoice"):
        glyph.encode_query(query)


def test_searching_and_indexing_real_documents_with_glyph_say_so(tmp_path, glyph):
    (tmp_path / "scans").mkdir()
    Image.new("RGB", (96, 96), "white").save(tmp_path / "scans" / "invoice.png")
    arguments = ["index", str(tmp_path / "scans"), "--index", str(tmp_path / "i"), "--model", "glyph"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "a demonstration model of coloured shapes" in done.stderr
    assert "Qwen/Qwen3-VL-Embedding-2B" in done.stderr
    with pytest.warns(SmartWarning, match="What it finds for them is chance"):
        CliRunner().invoke(app, ["search", str(tmp_path / "i"), "invoice total", "--json"])
    with SmartIndex.create(tmp_path / "own", glyph) as index, warnings.catch_warnings():
        warnings.simplefilter("error", SmartWarning)
        index.add([glyph_page("test", 0).image()])
        assert len(index.search("red circle")) == 1


def test_inspect_says_what_it_is_made_for(tiny):
    assert "coloured shapes" in json.loads(CliRunner().invoke(app, ["inspect", "glyph", "--json"]).stdout)["purpose"]
    assert json.loads(CliRunner().invoke(app, ["inspect", str(tiny("mean")), "--json"]).stdout)["purpose"] is None


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"what": 1}'])
def test_a_broken_file_is_named(text, tmp_path):
    (tmp_path / "smart").mkdir()
    (tmp_path / "smart" / "purpose.json").write_text(text)
    with pytest.raises(ReadoutError, match=r"purpose\.json"):
        read_purpose(tmp_path)
