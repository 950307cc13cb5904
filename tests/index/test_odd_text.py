"""Text and names that are not what they seem: half characters, invisible ones, bytes that are no UTF-8, NFC and NFD."""

import json
import os
import warnings

import pytest

from smart_retrieval.errors import FilterError, SmartError, SmartWarning, UnknownIdError

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
STRAY = os.fsdecode(b"caf\xe9.txt")


@pytest.fixture
def files(tmp_path):
    """``files({name: text})``: a folder; names may be bytes."""

    def written(contents):
        folder = tmp_path / "files"
        folder.mkdir(exist_ok=True)
        for name, text in contents.items():
            try:
                (folder / os.fsdecode(name)).write_text(text)
            except OSError:
                pytest.skip("this file system takes no such names")
        if len(list(folder.iterdir())) < len(contents):
            pytest.skip("this file system takes equal names for one")
        return folder

    return written


# -- text --------------------------------------------------------------------------------------------------------------


def test_half_characters_and_invisible_ones_in_documents(make):
    index = make()
    texts = ["the \ud800 otter", "ot\u00adter", "ot\u200bter", "\ud83e\udda6 otter", "a\0b", "می\u200cخواهم"]
    ids = index.add(
        texts, headings=["A\ud800", "B\u00ad", None, None, None, None], metadata=[{"a": "x\ud800\u00ad"}] * 6
    )
    stored = index.get(ids)
    assert [document.text for document in stored] == [
        "the \ufffd otter", "otter", "otter", "\U0001f9a6 otter", "ab", "می\u200cخواهم",
    ]  # fmt: skip
    assert [document.heading for document in stored[:3]] == ["A\ufffd", "B", None]
    assert {document.metadata["a"] for document in stored} == {"x\ufffd"}


def test_a_query_is_cleaned_as_passages_are(make):
    index = make()
    index.add(["the otter swims", "tax is due", "bread and butter"])
    plain = index.search("otter", lexical_weight=1.0)
    for query in ("ot\u00adter", "ot\u200bter", "\u202eotter", {"text": "\ufeffotter"}):
        found = index.search(query, lexical_weight=1.0)
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in plain]
        assert index.explain(query, plain[0].id).score == pytest.approx(index.explain("otter", plain[0].id).score)
    assert len(index.search("otter \ud800")) == 3
    assert len(index.search_many(["\udce9", "otter \udfff"])[0]) == 3
    with pytest.raises(SmartError, match="empty query"):
        index.search("\u00ad\u200b")


def test_models_take_half_characters(smart):
    model = smart("mean")
    lone = model.encode_document(["otter \ud800", "otter \ufffd", "otter \U0001f9a6", "otter \ud83e\udda6"])
    for first, second in ((0, 1), (2, 3)):
        assert (lone.anchors[first] == lone.anchors[second]).all()
    assert len(model.encode_query("\ud800")) == 1


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", "a\ud800", "a\0", 5, None])
def test_ids_that_cannot_be_stored_are_refused_before_anything_is_encoded(make, bad):
    index = make()
    with pytest.raises(SmartError, match="document id"):
        index.add(["a", "b"], ids=["good", bad])
    assert len(index) == 0


def test_ids_that_are_not_there(make):
    index = make()
    index.add(["a"], ids=["a"])
    for id in ("\ud800", "a\udce9", "\0", ""):
        assert id not in index
        for call in (index.get, index.delete, lambda id: index.explain("a", id)):
            with pytest.raises(UnknownIdError):
                call(id)


def test_composed_and_decomposed_ids_stay_apart_and_find_each_other(make):
    index = make()
    index.add(["a"], ids=[DECOMPOSED])
    assert COMPOSED in index
    assert index.get(COMPOSED)[0].id == DECOMPOSED
    index.add(["b"], ids=[COMPOSED])
    assert [index.get(id)[0].text for id in (DECOMPOSED, COMPOSED)] == ["a", "b"]
    assert index.delete(COMPOSED) == 1
    assert index.store.ids() == [DECOMPOSED]
    # Two spellings of which the asked one is neither: nobody can say which is meant.
    index.add(["a", "b"], ids=["\u1e69", "s\u0307\u0323"])
    assert "s\u0323\u0307" not in index


# -- where -------------------------------------------------------------------------------------------------------------


def test_lists_in_metadata(make):
    index = make()
    lists = [{"tags": ["a", "b"], "years": [1999, 2021]}, {"tags": "a"}, {"tags": []}, {}]
    index.add(["one", "two", "three", "four"], ids=["1", "2", "3", "4"], metadata=lists)
    for where, expected in {
        "tags = 'a'": ["1", "2"],
        "tags contains 'b'": ["1"],
        "tags != 'a'": ["3", "4"],
        "not tags in ('b', 'c')": ["2", "3", "4"],
        "years > 2020": ["1"],
    }.items():
        assert sorted(hit.id for hit in index.search("one", where=where)) == expected
    assert index.delete(where="tags contains 'b'") == 1
    assert len(index) == 3


def test_a_filter_on_what_no_document_has_says_so(make):
    index = make()
    index.add(["one"], metadata=[{"year": 2020, "a": {"b": 1}}])
    with pytest.warns(SmartWarning, match=r"no document has the metadata 'yaer', 'a\.c', so none passes"):
        assert len(index.search("one", where="yaer = 2020 or a.c = 1 or page = 3")) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for where in ("year = 1", "yaer is null", "yaer != 3"):
            index.search("one", where=where)
    with pytest.raises(FilterError, match="page = 3"):
        index.search("one", where="page = '3'")


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_whose_names_differ_in_bytes_that_are_no_text_stay_apart(make, files):
    names = {b"caf\xe9.txt": "one otter", b"caf\xe8.txt": "two otters", b"caf\\xe9.txt": "three", b"a\\x5cxe9.txt": "4"}
    folder = files(names)
    index = make()
    report = index.index_folder(folder)
    assert (report.added, report.failed, len(index)) == (4, 0, 4)
    sources = {index.get(id)[0].source for id in index.store.ids()}
    assert sources == {"caf\\xe9.txt", "caf\\xe8.txt", "caf\\x5cxe9.txt", "a\\x5cx5cxe9.txt"}
    assert index.index_folder(folder).unchanged == 4
    # As the index shows the name, and as a command line gives it.
    for shown in ("caf\\xe9.txt", STRAY):
        hits = index.search("otter", where=f"source = '{shown}'")
        assert [hit.text for hit in hits] == ["one otter"]
        assert index.get(f"{shown}#0")[0].text == "one otter"
    os.remove(os.path.join(os.fsencode(folder), b"caf\xe9.txt"))
    assert index.index_folder(folder, sync=True).removed == 1
    assert len(index) == 3


def test_patterns_of_composed_and_decomposed_names(make, files):
    folder = files({f"{DECOMPOSED}.md": "one", f"{COMPOSED}.md": "two", "tea.md": "three", b"caf\xe9.md": "four"})
    index = make()
    assert index.index_folder(folder, include=[f"{COMPOSED}.*"]).seen == 2
    assert sorted(index.store.ids()) == [f"{DECOMPOSED}.md#0", f"{COMPOSED}.md#0"]
    assert len(index.search("one", where=f"source = '{DECOMPOSED}.md'")) == 2
    assert index.index_folder(folder, exclude=[f"{DECOMPOSED}*"]).added == 2
    (folder / ".gitignore").write_text(f"{COMPOSED}.md\n")
    assert make().index_folder(folder).seen == 2
    assert make().index_folder(folder, include=[os.fsdecode(b"caf\xe9.*")]).seen == 1


def test_a_folder_whose_name_is_no_text(make, tmp_path):
    folder = tmp_path / os.fsdecode(b"d\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such names")
    (folder / "a.txt").write_text("otter")
    index = make()
    assert index.index_folder(folder).added == 1
    assert index.index_folder(folder).unchanged == 1
    assert index.store.manifest.root == str(folder.resolve())


@pytest.mark.parametrize("seconds", [2**40, 10**10, -(2**31), 0])
def test_file_times_far_away(make, files, monkeypatch, seconds):
    folder = files({"a.txt": "otter"})
    try:
        os.utime(folder / "a.txt", ns=(0, seconds * 10**9))
    except (OSError, OverflowError):
        pytest.skip("this file system takes no such times")
    index = make()
    assert index.index_folder(folder).added == 1
    monkeypatch.setattr("smart_retrieval.index.ingest.reading.content_hash", None)  # not even hashed again
    assert index.index_folder(folder).unchanged == 1


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="arguments are text there")
def test_bytes_that_are_no_text_on_the_command_line(make, files, forked):
    index = make()
    index.index_folder(files({b"caf\xe9.txt": "one otter", "b.txt": "two \u202e otters"}))
    path = os.fsencode(index.path)
    index.close()

    def run(*arguments):
        return forked.start(*arguments).wait()

    query = (b"search", path, b"otter \xff\xe9", b"--json", b"--where", b"source = 'caf\xe9.txt'")
    status, stdout, stderr = run(*query)
    assert status == 0, stderr
    assert [hit["source"] for hit in json.loads(stdout)["hits"]] == ["caf\\xe9.txt"]
    status, stdout, stderr = run(b"search", path, b"otter \xff")
    assert status == 0, stderr
    assert "\u202e" not in stdout
    for arguments in (
        [b"explain", path, b"otter \xff", b"caf\xe9.txt#0"],
        [b"delete", path, b"caf\xe9.txt#0", b"--yes"],
    ):
        status, _, stderr = run(*arguments)
        assert status == 0, stderr
    for arguments in (
        [b"explain", path, b"otter", b"no\xff"],
        [b"search", path, b"otter", b"--where", b"\xff = 1"],
        [b"info", path + b"\xff"],
        [b"search", path, b"otter", b"--model", b"no\xff"],
        [b"index", path + b"\xfe", b"--index", path],
    ):
        status, _, stderr = run(*arguments)
        assert status in (1, 2), stderr
        assert "Traceback" not in stderr
