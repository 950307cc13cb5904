"""The whole probe on a tiny model: the figures of `smart eval`, a safe page, and words that follow the test."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from fixtures.commands import loaded, run
from fixtures.tiny_models import HIDDEN
from fixtures.tiny_models import WORDS as VOCABULARY
from markupsafe import escape

from smart_retrieval import Readout
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.errors import DatasetError, MissingExtraError, ModelNotFoundError, SmartError
from smart_retrieval.evaluation.evaluate import evaluate_beir
from smart_retrieval.evaluation.known_item import KNOWN_ITEM_NOTE
from smart_retrieval.evaluation.probe import probe, probe_page, write_page
from smart_retrieval.evaluation.probe.charts import Series, columns, curves, dots
from smart_retrieval.evaluation.probe.run import INTERVALS_NOTE
from smart_retrieval.evaluation.probe.tokens import encode_every_position, token_report
from smart_retrieval.evaluation.probe.verdict import effect_of, verdict
from smart_retrieval.evaluation.provenance import stable

DOCUMENTS, QUERIES = 30, 12
# The tiny tokenizer gives the last word an id that the tiny model has no embedding for.
WORDS = VOCABULARY[:-1]


def write_collection(folder, *, documents=DOCUMENTS, queries=QUERIES, words=None):
    """Documents of random words; a query is a few words of its relevant document."""
    rng = np.random.default_rng(3)
    (folder / "qrels").mkdir(parents=True)
    sizes = rng.integers(5, 15, size=documents) if words is None else [words] * documents
    texts = [" ".join(rng.choice(WORDS, size=int(size), replace=False)) for size in sizes]
    questions = [" ".join(texts[place].split()[: 2 + place % 3 if words is None else 3]) for place in range(queries)]
    for name, own in (("corpus", texts), ("queries", questions)):
        rows = [json.dumps({"_id": f"{name[0]}{place}", "text": text}) + "\n" for place, text in enumerate(own)]
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("".join(f"q{place}\tc{place}\t1\n" for place in range(queries)))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("probe") / "words")


@pytest.fixture(scope="module")
def result(folder, smart):
    return probe(folder, model=smart("mean", preset="default"))


def rows(result, key):
    return {row["name"]: row for row in result[key]}


def test_result_has_every_key_and_is_json(result):
    assert list(result)[:10] == [
        *("verdict", "metric", "known_item", "systems", "default_against_paper", "layers", "lambda_late", "variants"),
        *("query_length", "document_length"),
    ]
    assert {"queries", "tokens", "notes", "dataset", "model", "preset", "readout", "scoring", "versions"} <= set(result)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["notes"] == [INTERVALS_NOTE]
    assert result["known_item"] is False


def test_figures_are_those_of_the_evaluation(result, folder, smart):
    """Another way to the same numbers: every setting encoded and scored on its own."""
    for name in ("paper", "default"):
        expected = rows(evaluate_beir(folder, model=smart("mean", preset=name)), "rows")
        found = rows(result, "systems")
        assert found["anchor"]["value"] == pytest.approx(expected["anchor"]["ndcg@10"])
        for system in ("late", "hybrid"):
            assert found[f"{system}, {name}"]["value"] == pytest.approx(expected[system]["ndcg@10"])
    model = smart("mean", preset="default")
    for name, change in {
        "uniform weights": {"weights": "uniform"},
        "no floor": {"floor": None},
        "floor 0.4": {"floor": 0.4},
    }.items():
        expected = rows(evaluate_beir(folder, model=model, **change), "rows")["hybrid"]["ndcg@10"]
        row = rows(result, "variants")[name]
        assert row["value"] == pytest.approx(expected)
        default = rows(result, "systems")["hybrid, default"]["value"]
        assert row["gain"]["difference"] == pytest.approx(expected - default)


def test_each_layer_is_that_layer_read_alone(result, folder, smart):
    points = {(row["layer"], row["system"], row["weights"]): row["value"] for row in result["layers"]["points"]}
    assert {layer for layer, _, _ in points} == {0, 1, 2, 3}
    for layer in (0, 2):
        model = smart("mean", preset="paper").with_readout(Readout((layer,)))
        for weights in ("uniform", "idf"):
            expected = rows(evaluate_beir(folder, model=model, weights=weights), "rows")
            for system in ("late", "hybrid"):
                assert points[layer, system, weights] == pytest.approx(expected[system]["ndcg@10"])


def test_the_curve_begins_at_the_anchor_and_passes_through_the_preset(result):
    for curve in result["lambda_late"]:
        values = {point["lambda_late"]: point["value"] for point in curve["points"]}
        assert values[0.0] == rows(result, "systems")["anchor"]["value"]
        assert values[curve["chosen"]] == rows(result, "systems")[f"hybrid, {curve['preset']}"]["value"]
        assert max(values) == 8.0


def test_every_point_lies_in_its_interval_and_every_query_is_counted(result):
    points = [*result["systems"], *result["layers"]["points"], *result["lambda_late"][0]["points"], *result["variants"]]
    for row in points:
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
    for key in ("query_length", "document_length"):
        assert sum(row["queries"] for row in result[key]) == QUERIES
    counted = result["queries"]
    assert sum(counted[name]["count"] for name in ("helped", "unchanged", "hurt")) == QUERIES
    gain = rows(result, "systems")["hybrid, default"]["gain"]
    assert (counted["helped"]["count"], counted["hurt"]["count"]) == (gain["wins"], gain["losses"])


def test_the_same_input_gives_the_same_result(result, folder, smart):
    assert stable(probe(folder, model=smart("mean", preset="default"))) == stable(result)


def test_a_sample_is_noted_in_the_warnings(folder, smart):
    result = probe(folder, model=smart("mean", preset="default"), documents=20, queries=5)
    assert (result["dataset"]["n_documents"], result["dataset"]["n_queries"]) == (20, 5)
    assert any("20 of 30 documents and 5 of 12 queries drawn" in note for note in result["dataset"]["warnings"])


def test_equal_lengths_make_one_bin_and_a_sentence(tmp_path, smart):
    result = probe(write_collection(tmp_path / "equal", words=8), model=smart("mean", preset="default"))
    assert len(result["document_length"]) == 1
    assert any("about equally long" in sentence for sentence in result["verdict"]["sentences"])
    assert "<svg" in probe_page(result)


def test_degenerate_collections_are_named_errors(tmp_path, smart):
    model = smart("mean", preset="default")
    with pytest.raises(DatasetError, match="nothing to rank"):
        probe(write_collection(tmp_path / "one", documents=1, queries=1), model=model)
    none = write_collection(tmp_path / "none")
    (none / "queries.jsonl").write_text("")
    with pytest.raises(DatasetError, match="no queries"):
        probe(none, model=model)
    (none / "queries.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"queries\.jsonl"):
        probe(none, model=model)
    with pytest.raises(DatasetError, match="found no folder"):
        probe(tmp_path / "nowhere", model=model)


def test_one_query_gives_no_interval_but_a_page(tmp_path, smart):
    result = probe(write_collection(tmp_path / "one", queries=1), model=smart("mean", preset="default"))
    assert rows(result, "systems")["anchor"]["ci_low"] is None
    assert result["verdict"]["effect"] == "unclear"
    assert any("With 1 query only" in sentence for sentence in result["verdict"]["sentences"])
    assert "<svg" in probe_page(result)


def test_an_adapter_is_probed_with_its_own_layers(folder, smart):
    torch.manual_seed(0)
    model = smart("mean", preset="default").with_adapter(Adapter(AdapterConfig(HIDDEN, width=8)), Readout())
    result = probe(folder, model=model)
    assert {row["layer"] for row in result["layers"]["points"]} == {None}
    expected = rows(evaluate_beir(folder, model=model), "rows")["hybrid"]["ndcg@10"]
    assert rows(result, "systems")["hybrid, default"]["value"] == pytest.approx(expected)
    assert "<svg" in probe_page(result)


def test_a_decoder_with_prompts_has_its_roles_counted(folder, smart):
    result = probe(folder, model=smart("decoder-prompts", preset="default"))
    every, used = result["tokens"]["all_kept"], result["tokens"]["as_used"]
    assert set(every["document_tokens"]) == {"special", "prompt", "text", "continuation", "punctuation"}
    assert set(used["document_tokens"]) == {"text", "continuation"}, "the default drops prompts and punctuation"
    for part in (every["document_tokens"], every["wins"], every["score"], used["wins"]):
        assert sum(part.values()) == pytest.approx(1.0)
    assert "token filter paper" in rows(result, "variants")


def test_every_position_is_what_the_model_sees(smart):
    """Without its special tokens, the encoding is the ordinary one."""
    model = smart("prompts", preset="paper")
    texts = ["the otter swims in the cold river", "tax is due"]
    every, usual = encode_every_position(model, model.readout, "document", texts), model.encode_document(texts)
    ordinary = every.roles != 0
    assert (every.lengths - usual.lengths).tolist() == [2, 2], "[CLS] and [SEP]"
    np.testing.assert_allclose(every.token_vectors[ordinary], usual.token_vectors, atol=1e-5)
    np.testing.assert_array_equal(every.roles[ordinary], usual.roles)


def test_the_token_sample_is_bounded(folder, smart, monkeypatch):
    from smart_retrieval.evaluation.beir import load_beir
    from smart_retrieval.evaluation.probe import tokens as probe_tokens

    monkeypatch.setattr(probe_tokens, "QUERIES", 3)
    monkeypatch.setattr(probe_tokens, "DOCUMENTS", 4)
    model = smart("mean", preset="default")
    assert token_report(model, model.readout, load_beir(folder))["sample"] == {"queries": 3, "documents": 4}


# -- words -----------------------------------------------------------------------------------------------------


def gain(difference, p_value, low, high):
    return {
        "mean_baseline": 0.4,
        "mean_treatment": 0.4 + difference,
        "difference": difference,
        "relative": difference / 0.4,
        "p_value": p_value,
        "ci_low": low,
        "ci_high": high,
    }


@pytest.mark.parametrize(
    ("comparison", "effect"),
    [
        (gain(0.05, 0.01, 0.02, 0.08), "helps"),
        (gain(-0.05, 0.01, -0.08, -0.02), "hurts"),
        (gain(0.05, 0.05, 0.01, 0.09), "unclear"),
        (gain(0.05, 0.04, -0.01, 0.11), "unclear"),
        (gain(0.2, 0.3, -0.1, 0.5), "unclear"),
        (gain(0.0, 1.0, 0.0, 0.0), "unclear"),
    ],
)
def test_significance_decides_the_verdict(result, comparison, effect):
    assert effect_of(comparison) == effect
    changed = [{**row, "gain": comparison} if row["name"] == "hybrid, default" else row for row in result["systems"]]
    said = verdict({**result, "systems": changed})
    assert said["effect"] == effect
    assert said["headline"].startswith({"helps": "SMART helps", "hurts": "SMART hurts"}.get(effect, "No clear effect"))


def test_variants_are_named_only_when_the_difference_is_clear(result):
    def sentences(comparison):
        return verdict({**result, "variants": [{"name": "no floor", "gain": comparison}]})["sentences"]

    assert any("Clearly worse" in one and "no floor" in one for one in sentences(gain(-0.1, 0.001, -0.2, -0.05)))
    assert any("smart tune should confirm" in one for one in sentences(gain(0.1, 0.001, 0.05, 0.2)))
    assert not any("no floor" in one for one in sentences(gain(-0.1, 0.2, -0.3, 0.1)))


# -- the page --------------------------------------------------------------------------------------------------

HOSTILE = '\u202e\x1b"><script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>{{title}}&'


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_hostile_text_is_shown_and_nothing_is_loaded(result, tmp_path):
    poisoned = json.loads(json.dumps(result))
    poisoned["model"] = poisoned["dataset"]["name"] = HOSTILE
    poisoned["dataset"]["warnings"] = [HOSTILE]
    poisoned["queries"]["most_helped"] = [{"id": HOSTILE, "text": HOSTILE, "anchor": 0, "hybrid": 1, "difference": 1}]
    poisoned["lambda_late"][0]["preset"] = poisoned["variants"][0]["name"] = HOSTILE
    poisoned["systems"][0]["name"] = poisoned["notes"][0] = HOSTILE
    poisoned["prompts"] = {"query": HOSTILE}
    poisoned["verdict"] = {"effect": "helps", "headline": HOSTILE, "sentences": [HOSTILE]}
    file = tmp_path / "deep" / "page.html"
    write_page(poisoned, file)
    tags = Tags()
    tags.feed(file.read_text(encoding="utf-8"))
    assert not set("\u202e\x1b") & set(tags.text)
    names = {name for name, _ in tags.seen}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "a", "image", "use"}
    for _, attributes in tags.seen:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert not any("url(" in (value or "") for value in attributes.values())
    assert tags.text.count("<script src=") >= 6, "hostile text is shown as it is"
    assert "{{title}}" in tags.text


def test_the_page_holds_every_part_and_no_address(result):
    page = probe_page(result)
    for row in [*result["systems"], *result["variants"]]:
        assert row["name"] in page
    for row in result["queries"]["most_helped"]:
        assert escape(row["text"]) in page
    for sentence in result["verdict"]["sentences"]:
        assert escape(sentence) in page
    assert page.count("<svg") == 7
    assert not re.search(r"https?://|url\(|@import", page)
    assert "nan" not in re.sub(r"[a-z]+nan|nan[a-z]+", "", page.lower())
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_a_page_that_cannot_be_written_is_a_named_error(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SmartError, match="cannot write"):
        write_page(result, tmp_path / "file" / "page.html")


def markers(svg):
    """Centre and width of each round marker."""
    found = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if "C" in path.get("d"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]
            xs, ys = numbers[::2], numbers[1::2]
            found.append(((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs)))
    return found


def test_charts_put_higher_values_higher_and_survive_equal_ones():
    def at(value):
        return {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1}

    svg = curves("t", [Series("s", [(0, at(0.2)), (1, at(0.6))], 1)], x_label="x", ticks=[(0, "0")], anchor=0.3).svg
    first, second, marked = markers(svg)
    assert first[0] < second[0]
    assert first[1] > second[1], "SVG counts downwards"
    assert marked[:2] == pytest.approx(second[:2], abs=0.1)
    assert marked[2] > second[2], "the marked point is larger"
    alone = {"value": 0.5, "ci_low": None, "ci_high": None}
    for drawn in (
        curves("t", [Series("s", [(3, alone)])], x_label="x", ticks=[(3, "3")], anchor=0.5),
        columns("t", [("a\nb", {**alone, "value": 0.0})], x_label="x", y_label="y"),
        dots("t", [("a", alone), ("b", alone)], x_label="x", baseline=0.5),
    ):
        assert "nan" not in drawn.svg
        assert "inf" not in drawn.svg
        assert ElementTree.fromstring(drawn.svg).tag == "svg", "well-formed"


def test_charts_are_inert_labelled_and_the_same_every_time():
    point = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}

    def drawn(name):
        return dots(name, [(name, point), ("_$x$", point)], x_label="nDCG@10", baseline=0.5)

    svg = ElementTree.fromstring(drawn(HOSTILE).svg)
    assert {element.tag for element in svg.iter()} == {"svg", "title", "path", "text"}
    assert {name for element in svg.iter() for name in element.attrib} <= {
        *("viewBox", "role", "aria-label", "d", "x", "y", "transform", "style")
    }
    texts = [element.text for element in svg.iter("text")]
    shown = f"  {HOSTILE[2:]}"
    assert {f"{shown[:27]}…", "$x$", "nDCG@10"} <= set(texts)
    assert svg.find("title").text == svg.get("aria-label") == shown
    assert "var(--a)" in drawn("a").svg
    assert not re.search("#[0-9a-f]{6}", drawn("a").svg), "only the page's colours"
    assert drawn("a") == drawn("a")


def test_a_page_without_matplotlib_is_refused_before_anything_is_encoded(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"smart-retrieval\[plot\]"):
        probe(folder, model="no-such-model", html=tmp_path / "page.html")
    with pytest.raises(ModelNotFoundError):
        probe(folder, model="no-such-model")


# -- the command -----------------------------------------------------------------------------------------------


def test_command_writes_json_and_page(folder, tiny, tmp_path):
    arguments = ("probe", "--data", folder, "--model", tiny("mean"), "--no-cache")
    page, out = tmp_path / "page.html", tmp_path / "result.json"
    result = loaded(run(*arguments, "--json", "--html", page, "--out", out))
    assert json.loads(out.read_text(encoding="utf-8")) == result
    assert result["verdict"]["headline"].split(":")[0] in page.read_text(encoding="utf-8")


def test_known_item_queries_are_noted_in_every_output(tiny, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    rng = np.random.default_rng(0)
    for place in range(8):
        sentences = [" ".join(rng.choice(WORDS, size=8, replace=False)) + "." for _ in range(4)]
        (notes / f"{place}.txt").write_text(" ".join(sentences).title(), encoding="utf-8")
    page, out = tmp_path / "page.html", tmp_path / "result.json"
    arguments = ("--model", tiny("mean"), "--no-cache", "--html", page, "--out", out)
    done = run("probe", "--data", notes, *arguments)
    assert done.exit_code == 0, done.output
    assert "known-item queries" in done.stdout.splitlines()[0]
    assert KNOWN_ITEM_NOTE in done.stdout
    assert KNOWN_ITEM_NOTE[1:] in page.read_text(encoding="utf-8")
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["known_item"] is True
    assert KNOWN_ITEM_NOTE in kept["notes"]
    assert kept["dataset"]["split"] == "known-item"


def test_known_item_queries_replace_existing_judgments(tmp_path, smart):
    folder = write_collection(tmp_path / "titled")
    lines = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    for place, line in enumerate(lines):
        line["title"] = f"{WORDS[place]} {WORDS[place + 30]} {WORDS[place + 60]}"
        line["text"] += " " + " ".join(WORDS[90:96])
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = probe(folder, model=smart("mean", preset="default"), known_item=True, queries=6)
    assert result["known_item"] is True
    assert result["dataset"]["n_queries"] == 6
    assert "known-item" in result["verdict"]["headline"]


def test_invalid_options_exit_with_2(tmp_path):
    assert run("probe").exit_code == 2
    assert run("probe", "--data", tmp_path, "--cache", "x", "--no-cache").exit_code == 2
    assert run("probe", "--data", tmp_path, "--documents", "1").exit_code == 2
