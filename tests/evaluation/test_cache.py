"""The cache returns complete entries only, and encodes damaged ones again."""

import json
import multiprocessing
import warnings

import pytest

from smart_retrieval.errors import EmbeddingsError, SmartError, SmartWarning
from smart_retrieval.evaluation.cache import EncodingCache

KEY = {"model": {"name": "minilm"}, "layers": [-1], "max_length": 256}


class Recorder:
    """An encoder that writes a value and counts its calls."""

    def __init__(self, value: str = "vectors") -> None:
        self.value = value
        self.calls = 0

    def encode(self, folder) -> None:
        assert list(folder.iterdir()) == [], "an encoder starts in an empty folder"
        self.calls += 1
        (folder / "value").write_text(self.value)


def load(folder) -> str:
    value = (folder / "value").read_text()
    if not value.startswith("v"):
        raise EmbeddingsError(f"damaged: {value}")
    return value


@pytest.fixture
def cache(tmp_path):
    return EncodingCache(tmp_path)


def names(cache) -> list[str]:
    return [path.name for path in cache.folder.iterdir()]


def test_a_second_call_encodes_nothing(cache, tmp_path):
    recorder = Recorder()
    assert cache.get_or_encode(KEY, recorder.encode, load) == ("vectors", False)
    assert cache.get_or_encode(KEY, recorder.encode, load) == ("vectors", True)
    assert EncodingCache(tmp_path).get_or_encode(dict(reversed(KEY.items())), recorder.encode, load)[1]
    assert recorder.calls == 1


@pytest.mark.parametrize(
    "changed",
    [{"max_length": 128}, {"layers": [-2]}, {"model": {"name": "other"}}, {"extra": None}, {"max_length": "256"}],
)
def test_any_change_of_the_key_encodes_again(cache, changed):
    cache.get_or_encode(KEY, Recorder("v1").encode, load)
    assert cache.get_or_encode({**KEY, **changed}, Recorder("v2").encode, load) == ("v2", False)
    assert cache.get_or_encode(KEY, Recorder("v3").encode, load) == ("v1", True)


def test_key_json_lists_the_parts_of_the_key(cache):
    cache.get_or_encode(KEY, Recorder().encode, load)
    (entry,) = cache.folder.iterdir()
    manifest = json.loads((entry / "key.json").read_text())
    assert manifest == {"cache_format": 1, **KEY}


def test_a_failed_encoding_leaves_no_entry(cache):
    def fail(folder) -> None:
        (folder / "value").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_encode(KEY, fail, load)
    assert names(cache) == []
    assert cache.get_or_encode(KEY, Recorder().encode, load) == ("vectors", False)


def test_an_entry_appears_only_when_complete(cache):
    seen = []

    def encode(folder) -> None:
        Recorder().encode(folder)
        seen.extend(names(cache))

    cache.get_or_encode(KEY, encode, load)
    assert len(seen) == 1
    assert seen[0].startswith(".unfinished-")
    assert len(names(cache)) == 1
    assert not names(cache)[0].startswith(".")


@pytest.mark.parametrize("damage", ["value", "file", "data"])
def test_a_damaged_entry_is_reported_removed_and_encoded_again(cache, damage):
    cache.get_or_encode(KEY, Recorder().encode, load)
    (entry,) = cache.folder.iterdir()
    if damage == "value":
        (entry / "data" / "value").write_text("garbage")
    else:
        (entry / "data" / "value").unlink()
    if damage == "data":
        (entry / "data").rmdir()
    with pytest.warns(SmartWarning, match="damaged cache entry"):
        assert cache.get_or_encode(KEY, Recorder("v2").encode, load) == ("v2", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get_or_encode(KEY, Recorder().encode, load) == ("v2", True)
    assert len(names(cache)) == 1


def test_an_encoder_whose_output_cannot_be_loaded_raises(cache):
    with pytest.raises(EmbeddingsError):
        cache.get_or_encode(KEY, Recorder("garbage").encode, load)


def test_other_errors_of_load_are_raised(cache):
    cache.get_or_encode(KEY, Recorder().encode, load)

    def buggy(folder) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get_or_encode(KEY, Recorder().encode, buggy)
    assert cache.get_or_encode(KEY, Recorder().encode, load)[1]


def test_the_first_of_two_writers_wins(cache):
    def slow(folder) -> None:
        # While this one encodes, another finishes the same key.
        assert cache.get_or_encode(KEY, Recorder("v first").encode, load) == ("v first", False)
        Recorder("v second").encode(folder)

    assert cache.get_or_encode(KEY, slow, load)[0] == "v first"
    assert len(names(cache)) == 1


def _encode_in_process(root, number, queue) -> None:
    queue.put(EncodingCache(root).get_or_encode(KEY, Recorder(f"v{number}").encode, load)[0])


def test_concurrent_processes_share_one_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_encode_in_process, args=(tmp_path, number, queue)) for number in range(4)]
    for process in processes:
        process.start()
    found = {queue.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    assert len(found) == 1
    assert len(names(EncodingCache(tmp_path))) == 1


def test_size_and_clear_touch_only_entries(cache, tmp_path):
    assert (cache.size(), cache.clear()) == (0, 0)
    cache.get_or_encode(KEY, Recorder("v" * 1000).encode, load)
    cache.get_or_encode({**KEY, "layers": [-2]}, Recorder("v" * 1000).encode, load)
    (cache.folder / ".unfinished-left-by-a-crash").mkdir()
    (cache.folder / "somebody else's").mkdir()
    (cache.folder / "notes.txt").write_text("mine" * 1000)
    assert 2000 < cache.size() < 4000
    assert cache.clear() == 3
    assert sorted(names(cache)) == ["notes.txt", "somebody else's"]
    assert cache.size() == 0


def test_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("SMART_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert EncodingCache().folder == tmp_path / "own" / "encodings"
    monkeypatch.setenv("SMART_CACHE", "")
    assert EncodingCache().folder == tmp_path / "xdg" / "smart-retrieval" / "encodings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert EncodingCache().folder == tmp_path / "home" / ".cache" / "smart-retrieval" / "encodings"
    assert not (tmp_path / "home").exists(), "asking makes no folder"


def test_a_cache_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SmartError, match=r"cannot write to the cache folder .*--no-cache"):
        EncodingCache(tmp_path / "file").get_or_encode(KEY, Recorder().encode, load)


@pytest.mark.parametrize("value", [object(), {1, 2}])
def test_a_key_must_be_json(cache, value):
    with pytest.raises(TypeError):
        cache.get_or_encode({"x": value}, Recorder().encode, load)
