"""The store: each input once, nothing lost by a kill, the filter applied when reading, several processes."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from fixtures.fake_encoder import FakeEncoder, content_readout, words_as_vectors
from fixtures.ragged import same

from smart_retrieval import SmartEmbeddings
from smart_retrieval.errors import SmartWarning
from smart_retrieval.evaluation.mmeb import store as store_module
from smart_retrieval.evaluation.mmeb.processes import Processes
from smart_retrieval.evaluation.mmeb.store import EncodingStore, filtered
from smart_retrieval.inputs import Item

TEXTS = [f"#find word{number} and {'more ' * (number % 3)}words" for number in range(11)]


def items(texts):
    return [Item(text) for text in texts]


def ensure(store, texts, side="document"):
    return store.ensure(side, texts, items(texts))  # the texts are their own keys


def test_encodings_come_back_in_any_order(tmp_path):
    fake = FakeEncoder()
    store = EncodingStore(tmp_path, fake, shard_items=4)
    done = ensure(store, TEXTS)
    assert (done.encoded, done.found, [len(call[1]) for call in fake.calls]) == (11, 0, [4, 4, 3])
    wanted = [TEXTS[place] for place in (10, 3, 4, 5, 3, 0, 7)]
    assert same(store.gather("document", wanted), words_as_vectors(wanted))
    np.testing.assert_array_equal(store.anchors("document", wanted), words_as_vectors(wanted).anchors)
    assert store.lengths("document", wanted).tolist() == words_as_vectors(wanted).lengths.tolist()
    without = store.gather("document", wanted, vectors=False)
    assert without.token_vectors.shape == (int(without.offsets[-1]), 0)
    np.testing.assert_array_equal(without.token_ids, words_as_vectors(wanted).token_ids)


def test_nothing_is_encoded_twice(tmp_path):
    fake = FakeEncoder()
    store = EncodingStore(tmp_path, fake, shard_items=4)
    ensure(store, [*TEXTS[:5], *TEXTS[:5]])
    assert sum(len(call[1]) for call in fake.calls) == 5
    done = ensure(store, TEXTS[3:8])
    assert (done.encoded, done.found) == (3, 2)
    again = EncodingStore(tmp_path, FakeEncoder(fail_after=0), shard_items=4)
    assert ensure(again, TEXTS[:8]).encoded == 0
    assert same(again.gather("document", TEXTS[:8]), words_as_vectors(TEXTS[:8]))


def test_the_two_sides_and_other_models_do_not_mix(tmp_path):
    fake = FakeEncoder()
    store = EncodingStore(tmp_path, fake)
    ensure(store, TEXTS[:2])
    ensure(store, TEXTS[:2], "query")
    assert [call[0] for call in fake.calls] == ["document", "query"]
    # The same inputs lie in shards of the same name.
    for side in ("query", "document"):
        assert same(store.gather(side, TEXTS[:2]), words_as_vectors(TEXTS[:2], side))
    other = FakeEncoder()
    other.version = "2"
    assert ensure(EncodingStore(tmp_path, other), TEXTS[:2]).encoded == 2


@pytest.mark.parametrize("calls", range(4))
def test_a_killed_run_resumes(tmp_path, calls):
    if calls < 3:
        with pytest.raises(KeyboardInterrupt):
            ensure(EncodingStore(tmp_path, FakeEncoder(fail_after=calls), shard_items=4), TEXTS)
    else:
        ensure(EncodingStore(tmp_path, FakeEncoder(), shard_items=4), TEXTS)
    fake = FakeEncoder()
    store = EncodingStore(tmp_path, fake, shard_items=4)
    done = ensure(store, TEXTS)
    assert (done.found, len(fake.calls)) == (min(11, 4 * calls), 3 - calls)
    assert same(store.gather("document", TEXTS), words_as_vectors(TEXTS))


def test_shards_after_a_kill_equal_those_of_an_uninterrupted_run(tmp_path, monkeypatch):
    """One of two processes was done, so gaps are left; shards are bounded by tokens, so neighbours could join."""
    monkeypatch.setattr(store_module, "SHARD_TOKENS", 16)
    whole, other, rest = FakeEncoder(), FakeEncoder(), FakeEncoder()
    ensure(EncodingStore(tmp_path / "whole", whole), TEXTS)
    shards = [texts for _, texts in whole.calls]
    assert len({len(texts) for texts in shards}) > 1
    one_of_two = EncodingStore(tmp_path / "killed", other, processes=Processes(1, 2))
    with pytest.raises(KeyError):  # it reads what the first should have done
        ensure(one_of_two, TEXTS)
    assert [texts for _, texts in other.calls] == shards[1::2]
    ensure(EncodingStore(tmp_path / "killed", rest), TEXTS)
    assert [texts for _, texts in rest.calls] == shards[::2]
    names = [sorted(path.name for path in (tmp_path / run).rglob("*.json")) for run in ("whole", "killed")]
    assert names[0] == names[1]


def test_few_shards_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "OPEN_SHARDS", 2)
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=1)
    ensure(store, TEXTS)
    backwards = [*TEXTS[::-1], TEXTS[3]]
    assert same(store.gather("document", backwards), words_as_vectors(backwards))
    np.testing.assert_array_equal(store.anchors("document", backwards), words_as_vectors(backwards).anchors)
    assert len(store._open) == 2
    again = EncodingStore(tmp_path, FakeEncoder(fail_after=0), shard_items=1)
    ensure(again, TEXTS)
    assert len(again._open) == 2
    assert again.lengths("document", backwards).tolist() == words_as_vectors(backwards).lengths.tolist()


def test_vectors_in_another_precision(tmp_path):
    store = EncodingStore(tmp_path, FakeEncoder())
    ensure(store, TEXTS)
    halves = store.gather("document", TEXTS[:3], dtype="float16").token_vectors
    assert halves.dtype == np.float16
    np.testing.assert_array_equal(halves, words_as_vectors(TEXTS[:3]).token_vectors.astype(np.float16))


def test_partial_shards_of_a_killed_run_are_removed(tmp_path):
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=4)
    ensure(store, TEXTS[:4])
    (folder,) = [path for path in (store.folder / "document").iterdir() if path.is_dir()]
    part = folder.with_name(f".{folder.name}.abc.part")
    folder.rename(part)
    again = EncodingStore(tmp_path, FakeEncoder(), shard_items=4)
    assert ensure(again, TEXTS[:4]).encoded == 4
    assert not part.exists()


def flip(file, at):
    whole = bytearray(file.read_bytes())
    whole[at] ^= 1
    file.write_bytes(whole)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "anchors.npy").write_bytes(b"no"),
        lambda folder: (folder / "embeddings.json").unlink(),
        lambda folder: folder.with_suffix(".json").write_text("[1"),
        lambda folder: folder.with_suffix(".json").write_text('["one key"]'),
        lambda folder: np.save(folder / "anchors.npy", np.full((4, 6), np.nan, np.float32)),
        lambda folder: flip(folder / "token_vectors.npy", -9),
        lambda folder: flip(folder.with_suffix(".json"), 9),
    ],
)
def test_a_damaged_shard_is_encoded_again(tmp_path, damage):
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=4)
    ensure(store, TEXTS[:8])
    folder = sorted(path for path in (store.folder / "document").iterdir() if path.is_dir())[0]
    damage(folder)
    again = EncodingStore(tmp_path, FakeEncoder(), shard_items=4)
    with pytest.warns(SmartWarning, match="damaged shard"):
        assert ensure(again, TEXTS[:8]).encoded == 4
    assert same(again.gather("document", TEXTS[:8]), words_as_vectors(TEXTS[:8]))


def test_discarding(tmp_path):
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=4)
    ensure(store, TEXTS)
    store.discard("document", TEXTS[4:5])
    assert ensure(store, TEXTS).encoded == 4
    store.discard("document", TEXTS)
    assert [path.name for path in (store.folder / "document").iterdir()] == []


def test_truncated_inputs_are_counted(tmp_path):
    store = EncodingStore(tmp_path, FakeEncoder(), shard_items=2)
    assert ensure(store, ["a …", "b", "c …", "d"]).truncated == 2
    assert ensure(store, ["d"]).truncated == 1  # of its shard


# -- the filter --------------------------------------------------------------------------------------------------------


def test_another_filter_encodes_nothing(tmp_path):
    fake = FakeEncoder()
    ensure(EncodingStore(tmp_path, fake), TEXTS)
    content = EncodingStore(tmp_path, fake.with_readout(content_readout()))
    assert ensure(content, TEXTS).encoded == 0
    assert same(content.gather("document", TEXTS), words_as_vectors([text.removeprefix("#find ") for text in TEXTS])) is False  # fmt: skip # noqa: E501
    kept = content.gather("document", TEXTS)
    np.testing.assert_array_equal(
        kept.token_vectors, words_as_vectors([text.removeprefix("#find ") for text in TEXTS]).token_vectors
    )
    np.testing.assert_array_equal(kept.anchors, words_as_vectors(TEXTS).anchors)


def test_a_model_that_drops_pictures_is_encoded_for_each_filter(tmp_path):
    fake = FakeEncoder(drops=True)
    ensure(EncodingStore(tmp_path, fake), TEXTS)
    content = EncodingStore(tmp_path, fake.with_readout(content_readout()))
    assert ensure(content, TEXTS).encoded == len(TEXTS)


@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_filtering_stored_tokens_equals_encoding_with_the_filter(smart):
    """Filtering what the model gave equals what the model gives with that filter, items without content included."""
    paper = smart("prompts")
    texts = ["the otter swims, or not!", "", "a", "?", "☃", "tax is due"]
    direct = paper.with_readout(replace(paper.readout, token_filter="content")).encode_query(texts)
    ours = filtered(paper.encode_query(texts), "content")
    assert ours.lengths.tolist() == direct.lengths.tolist()
    assert (direct.lengths == 0).tolist() == [False, True, False, True, True, False]
    np.testing.assert_allclose(ours.token_vectors, direct.token_vectors, atol=1e-6)
    np.testing.assert_array_equal(ours.token_ids, direct.token_ids)


# -- several processes -------------------------------------------------------------------------------------------------


def test_processes_share_the_work(tmp_path, monkeypatch):
    barrier, one_at_a_time, load = threading.Barrier(2, timeout=60), threading.Lock(), SmartEmbeddings.load

    def loaded(path, **options):
        # Threads stand in for processes here, and Python 3.11 cannot read two array headers at once (cpython#106905).
        with one_at_a_time:
            return load(path, **options)

    monkeypatch.setattr(SmartEmbeddings, "load", loaded)
    fakes = [FakeEncoder(), FakeEncoder()]
    results = {}

    def work(rank):
        processes = Processes(rank, 2, lambda: barrier.wait() and None)
        store = EncodingStore(tmp_path, fakes[rank], shard_items=2, processes=processes)
        for texts in (TEXTS[:7], TEXTS):
            ensure(store, texts)
        results[rank] = store.gather("document", TEXTS)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(results[0], words_as_vectors(TEXTS))
    assert same(results[1], results[0])
    assert [sum(len(texts) for _, texts in fake.calls) for fake in fakes] == [2 + 2 + 2, 2 + 1 + 2]
