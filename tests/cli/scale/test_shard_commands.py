"""smart split and merge, and the commands that take shards as one index."""

import pytest
from fixtures.commands import loaded, run

from smart_retrieval import SmartIndex


@pytest.fixture(scope="module")
def built(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "a.smart"
    with SmartIndex.create(path, str(tiny("mean"))) as index:
        index.add(
            [f"the {word} is cold" for word in ("otter", "moon", "river", "tax", "oil", "bread")], ids=list("abcdef")
        )
    return path


def ranked(path):
    return [hit["id"] for hit in loaded(run("search", path, "cold river", "--json"))["hits"]]


def test_split_search_and_merge(built, tmp_path):
    made = loaded(run("split", built, tmp_path / "s", "--shards", 3, "--json"))
    assert (len(made["shards"]), made["documents"]) == (3, 6)
    expected = ranked(built)
    assert ranked(tmp_path / "s") == expected
    assert loaded(run("info", tmp_path / "s", "--json"))["documents"] == 6
    assert run("info", tmp_path / "s").exit_code == 0
    explained = loaded(run("explain", tmp_path / "s", "cold river", "c", "--json"))
    assert explained["id"] == "c"
    merged = loaded(run("merge", tmp_path / "s", "--out", tmp_path / "m.smart", "--json"))
    assert merged["documents"] == 6
    assert ranked(tmp_path / "m.smart") == expected
    assert "6 passages" in run("merge", tmp_path / "s", "--out", tmp_path / "n.smart").stdout
    assert loaded(run("delete", tmp_path / "s", "--where", "id = 'a'", "--yes", "--json"))["deleted"] == 1
    assert ranked(tmp_path / "s") == [id for id in expected if id != "a"]


def test_a_backup_of_an_index_or_of_shards_is_one_like_it(built, tmp_path):
    run("split", built, tmp_path / "s", "--shards", 2)
    for source, copy in ((built, tmp_path / "copy.smart"), (tmp_path / "s", tmp_path / "copies")):
        made = loaded(run("backup", source, copy, "--json"))
        assert (made["documents"], made["backup"]) == (6, str(copy))
        assert ranked(copy) == ranked(source)
        again = run("backup", source, copy)
        assert again.exit_code == 1
        assert "already" in str(again.exception)
    assert run("backup", built, tmp_path / "other").stdout.startswith("6 passages as of ")
    assert "no index" in str(run("backup", tmp_path / "nothing", tmp_path / "o").exception)


def test_errors_are_named(built, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x").write_text("")
    assert "found something" in str(run("split", built, tmp_path / "s", "-n", 2).exception)
    assert run("split", built, tmp_path / "t", "-n", 0).exit_code == 2
    assert run("merge", tmp_path / "nothing", "--out", tmp_path / "m").exit_code == 1
