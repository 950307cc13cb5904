"""smart index, search, explain, info, delete, optimize, verify: streams, exit statuses, JSON."""

import json
import sqlite3

import pytest
from fixtures.commands import loaded, run
from fixtures.rerankers import save_cross_encoder

from smart_retrieval.errors import ModelNotFoundError


@pytest.fixture(scope="module")
def model(tiny):
    return str(tiny("mean"))


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "otters.md").write_text("# Otters\n\nThe otter swims in the cold river.\n\n# Moon\n\nThe moon is cold.\n")
    (folder / "tax.txt").write_text("Tax is due in the long cold day.\n\n" * 8)
    (folder / "r.jsonl").write_text('{"body": "bread and butter", "year": 2021}\n{"body": "oil", "year": 1999}\n')
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 no more")
    return folder


@pytest.fixture(scope="module")
def built(docs, model, tmp_path_factory):
    """An index that the tests only read, and what making it printed."""
    path = tmp_path_factory.mktemp("index") / "docs.smart"
    result = run("index", docs, "--index", path, "--model", model, "--text-field", "body", "--json")
    return path, loaded(result)


@pytest.fixture
def own(docs, model, tmp_path):
    """An index that a test may change."""
    path = tmp_path / "own.smart"
    loaded(
        run("index", docs, "--index", path, "--model", model, "--text-field", "body", "--codec", "float16", "--json")
    )
    return path


def test_index_reports_what_it_did(built):
    _, report = built
    assert report["files"] == {"seen": 4, "added": 3, "updated": 0, "unchanged": 0, "removed": 0, "failed": 1}
    assert report["documents"] == report["passages"] > 4
    assert report["truncated"] == 0
    assert report["skipped"][0]["files"][0]["path"] == "broken.pdf"
    assert {"root", "index", "tokens", "seconds", "notes", "passages_removed"} <= set(report)


ODD = "otter \x1b[2J\x9b31m \u202e [/red] [bold] <script> می\u200cخ"


def test_nothing_printed_steers_the_terminal(model, tmp_path):
    from smart_retrieval import SmartIndex

    with SmartIndex.create(tmp_path / "[x].smart", model) as index:
        index.add([ODD], ids=[ODD], sources=[ODD], headings=[ODD], metadata=[{"a": ODD}])
        (id,) = index.store.ids()
    for command in (
        ("search", tmp_path / "[x].smart", ODD),
        ("search", tmp_path / "[x].smart", ODD, "--group-by", "file"),
        ("explain", tmp_path / "[x].smart", ODD, id),
        ("info", tmp_path / "[x].smart"),
    ):
        for more in ((), ("--json",)):
            result = run(*command, *more)
            assert result.exit_code == 0, result.output
            assert not set("\x1b\x9b\u202e") & set(result.stdout)
            if command[0] != "info":
                assert "[/red] [bold] <script>" in result.stdout
                assert "می\u200cخ" in result.stdout


def test_a_name_does_not_begin_a_line(model, tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("a\nb.txt", "a\nc.xyz", "d.pdf\n66 files: 1 added.pdf"):
        (tmp_path / "docs" / name).write_text("otter")
    lines = run("index", tmp_path / "docs", "--index", tmp_path / "i", "--model", model).stdout.splitlines()
    assert lines[0] == "2 files: 1 added, 1 failed"
    assert not any(line.startswith("66") for line in lines)
    assert "left out, 1 × not a type that is read: .xyz" in lines
    assert "a b.txt#0" in run("search", tmp_path / "i", "otter").stdout


def test_the_second_run_reports_that_nothing_changed(own, docs):
    result = run("index", docs, "--index", own)
    assert result.exit_code == 0
    assert "0 added, 3 unchanged, 1 failed" in result.stdout
    assert "broken.pdf (" in result.stdout
    assert "0 passages encoded" in result.stdout
    assert result.stderr == ""


def test_index_says_what_it_guessed_and_what_holds_no_text(own, docs, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    text = "Сегодня мы собрались, чтобы обсудить важный вопрос о будущем нашего города."
    (folder / "a.txt").write_bytes(text.encode("cp1251"))
    (folder / "b.html").write_text("<script>start()</script>")
    path, model = tmp_path / "more.smart", loaded(run("info", own, "--json"))["model"]["name"]
    result = run("index", folder, "--index", path, "--model", model, "--codec", "float16")
    assert result.exit_code == 0
    assert "cannot be read, 1 × holds no text that can be read: b.html" in result.stdout
    assert "note, 1 × encoding guessed: a.txt (cp1251)" in result.stdout
    (folder / "a.txt").write_bytes(b"More. " + text.encode("cp1251"))
    assert "note" not in run("index", folder, "--index", path, "--encoding", "windows-1251").stdout
    wrong = run("index", folder, "--index", path, "--encoding", "klingon")
    assert wrong.exit_code != 0
    assert "klingon" in str(wrong.exception)


def test_another_model_or_codec_is_a_named_error(own, docs, tiny):
    from smart_retrieval.errors import CodecError, IndexMismatchError

    for options, error in ((["--model", tiny("prompts")], IndexMismatchError), (["--codec", "int8"], CodecError)):
        result = run("index", docs, "--index", own, *options)
        assert isinstance(result.exception, error)
        assert result.stdout == ""


def test_search_prints_rank_parts_and_place(built):
    result = run("search", built[0], "an otter in the river", "-k", 2)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[0] == "1"
    assert "anchor" in lines[0]
    assert "late" in lines[0]
    assert "#" in lines[0]
    assert "\x1b" not in result.stdout


def test_search_as_json(built):
    found = loaded(run("search", built[0], "the cold moon", "-k", 3, "--json"))
    assert found["query"] == "the cold moon"
    assert len(found["hits"]) == 3
    assert set(found["hits"][0]) >= {"id", "score", "anchor", "late", "text", "source", "page", "heading", "metadata"}
    assert [hit["score"] for hit in found["hits"]] == sorted((hit["score"] for hit in found["hits"]), reverse=True)


def test_search_options_reach_the_index(built):
    path = built[0]
    only = loaded(run("search", path, "bread", "--where", "year > 2000", "--json"))
    assert [hit["id"] for hit in only["hits"]] == ["r.jsonl#1"]
    words = loaded(run("search", path, "butter", "--lexical-weight", 500, "--json"))
    assert words["hits"][0]["id"] == "r.jsonl#1"
    assert words["hits"][0]["lexical"] > 0
    assert "lexical" in run("search", path, "butter", "--lexical", "--exact").stdout
    alone = loaded(run("search", path, "butter", "--lambda-late", 0, "--lambda-anchor", 2, "--json"))["hits"][0]
    assert alone["score"] == pytest.approx(2 * alone["anchor"], abs=1e-5)
    plain, named = (run("search", path, "butter", *more, "--json") for more in ((), ("--lambda-late", "calibrated")))
    assert loaded(plain)["hits"] == loaded(named)["hits"]  # the default's
    assert "no document passes" in run("search", path, "bread", "--where", "year > 3000").stdout


def test_search_and_explain_take_weights_and_floor(built):
    path = built[0]
    given = ("--weights", "idf", "--floor", 0.3, "--lambda-late", 2, "--json")
    hits = loaded(run("search", path, "an otter in the river", *given, "--exact"))["hits"]
    plain = loaded(run("search", path, "an otter in the river", "--weights", "uniform", "--floor", "none", "--json"))
    assert hits[0]["late"] != pytest.approx(plain["hits"][0]["late"])
    explained = loaded(run("explain", path, "an otter in the river", hits[0]["id"], *given))
    assert explained["floor"] == 0.3
    assert explained["score"] == pytest.approx(hits[0]["score"], abs=1e-3)


def test_options_of_the_result_list(built, tmp_path):
    path, query = built[0], "an otter in the river"
    given = ("--feedback", 0.5, "--neighbours", 0.2, "--lexical")
    found = loaded(run("search", path, query, *given, "--json"))
    second = found["hits"][1]
    assert found["best"] == found["hits"][0]["id"]
    explained = loaded(run("explain", path, query, second["id"], *given, "--json"))
    assert explained["score"] == pytest.approx(second["score"], abs=1e-3)
    assert [part["name"] for part in explained["added"]] == ["lexical", "feedback", "neighbours"]
    parts = [explained[f"lambda_{name}"] * explained[name] for name in ("anchor", "late")]
    assert explained["score"] == pytest.approx(sum(parts) + sum(part["contribution"] for part in explained["added"]))
    like = f"like hit {found['best']}: {explained['added'][1]['contribution']:+.4f} (feedback)"
    assert like in run("explain", path, query, second["id"], *given).stdout
    page = tmp_path / "why.html"
    assert run("explain", path, query, second["id"], *given, "--out", page).exit_code == 0
    assert like in page.read_text(encoding="utf-8")
    assert f"feedback {second['feedback']:.3f}" in run("search", path, query, *given).stdout


def test_a_reranker_orders_the_first_hits(built, tmp_path):
    path, query, folder = built[0], "an otter in the river", save_cross_encoder(tmp_path / "reranker")
    hits = loaded(run("search", path, query, "--rerank", folder, "--rerank-depth", 3, "--json"))["hits"]
    scores = [hit["rerank"] for hit in hits]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert set(scores[3:]) == {None}
    explained = run("explain", path, query, hits[0]["id"], "--rerank", folder)
    assert f"reranked with {scores[0]:.4f}" in explained.stdout
    missing = run("search", path, query, "--rerank", tmp_path / "none")
    assert isinstance(missing.exception, ModelNotFoundError)


def test_search_by_file(built):
    found = loaded(run("search", built[0], "the cold day", "--group-by", "file", "-k", 2, "--json"))
    assert len(found["groups"]) == 2
    for group in found["groups"]:
        assert {hit["source"] for hit in group["hits"]} == {group["source"]}
    assert "tax.txt" in run("search", built[0], "the cold day", "--group-by", "file").stdout


def test_a_terminal_shows_the_words_that_matched(built, monkeypatch):
    monkeypatch.setattr("smart_retrieval.cli.search.on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("search", built[0], "the otter swims in the cold river", "-k", 1).stdout


@pytest.mark.parametrize("options", [[], ["--lexical"], ["--group-by", "file"]], ids=str)
def test_a_terminal_search_encodes_its_query_once(built, monkeypatch, options):
    from smart_retrieval import SmartIndex, SmartModel

    calls = []

    def count(owner, name):
        method = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kwargs: calls.append(name) or method(*args, **kwargs))

    count(SmartModel, "encode_query")
    count(SmartIndex, "explain")
    monkeypatch.setattr("smart_retrieval.cli.search.on_terminal", lambda: True)
    assert run("search", built[0], "the otter swims in the cold river", *options).exit_code == 0
    assert calls.count("explain") > 1
    assert calls.count("encode_query") == 1


def test_explain(built, tmp_path):
    arguments = ("explain", built[0], "an otter in the river", "otters.md#0")
    found = loaded(run(*arguments, "--json"))
    assert sum(token["contribution"] for token in found["tokens"]) == pytest.approx(found["late"])
    weights = found["lambda_anchor"], found["lambda_late"]
    assert found["score"] == pytest.approx(weights[0] * found["anchor"] + weights[1] * found["late"])
    table = run(*arguments)
    assert "contribution" in table.stdout
    assert f"{found['late']:.4f}" in table.stdout
    assert "\x1b" not in table.stdout
    page = tmp_path / "page.html"
    assert run(*arguments, "--out", page).exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_info(built):
    found = loaded(run("info", built[0], "--json"))
    assert (found["files"], found["documents"]) == (3, built[1]["documents"])
    text = run("info", built[0]).stdout
    assert all(line == line.rstrip() for line in text.splitlines()), "lines of a pipe stay whole"
    assert "anchored+3vq+norm" in text
    assert "of 3 files" in text


def test_delete_by_id_and_by_filter(own):
    assert loaded(run("delete", own, "tax.txt#0", "--json"))["deleted"] == 1
    asked = run("delete", own, "--where", "year < 2000")
    assert asked.exit_code == 2
    assert "--yes" in asked.stderr
    assert run("delete", own, "--where", "year < 2000", "--yes").stdout == "deleted 1 passage\n"
    assert "r.jsonl#2" not in run("search", own, "oil").stdout


def test_the_index_is_sound_after_optimize(own):
    run("delete", own, "--where", "source = 'tax.txt'", "--yes")
    found = loaded(run("optimize", own, "--json"))
    assert set(found["bytes"]) == {"before", "after"}
    assert found["codec"] == {"before": "float16", "after": "float16"}
    assert run("verify", own).exit_code == 0


def test_verify_lists_what_is_damaged(own):
    assert loaded(run("verify", own, "--json"))["ok"] is True
    connection = sqlite3.connect(own / "index.sqlite")
    connection.execute("UPDATE vectors SET anchor = zeroblob(length(anchor)) WHERE rowid = 2")
    connection.commit()
    connection.close()
    result = run("verify", own)
    assert result.exit_code == 1
    assert "(vectors, row 2)" in result.stdout
    damaged = run("verify", own, "--json")
    assert damaged.exit_code == 1
    assert json.loads(damaged.stdout)["damaged"][0]["part"] == "vectors"


@pytest.mark.parametrize(
    "wrong",
    [
        ["index", "nowhere", "--index", "x.smart"],
        ["index", "."],
        ["index", ".", "--index", "x.smart", "--as", "docx"],
        ["search", "x.smart"],
        ["search", "x.smart", "q", "-k", "0"],
        ["search", "x.smart", "q", "--group-by", "page"],
        ["search", "x.smart", "q", "--floor", "low"],
        ["delete", "x.smart"],
        ["delete", "x.smart", "a", "--where", "b = 1"],
    ],
)
def test_wrong_usage_is_status_2(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*wrong)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_no_index_is_a_named_error(tmp_path):
    from smart_retrieval.errors import IndexFormatError

    for command in (
        ["search", tmp_path, "q"],
        ["explain", tmp_path, "q", "a"],
        ["info", tmp_path],
        ["verify", tmp_path],
    ):
        assert isinstance(run(*command).exception, IndexFormatError)
