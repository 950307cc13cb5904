"""Exact search on a GPU: when it is asked, what it keeps, and that its hits are the CPU's."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest
import torch
from fixtures.indexes import PLAIN, Indexes, documents, names, topics

from smart_retrieval.errors import SmartError, SmartWarning
from smart_retrieval.index.search import device as device_module
from smart_retrieval.index.search.device import DeviceSearch
from smart_retrieval.index.smart_index import SmartIndex

QUERIES = documents([4, 1, 9], seed=99)
EXACT: dict[str, Any] = {**PLAIN, "exact": True}


@pytest.fixture
def index(tmp_path, smart):
    made = Indexes(tmp_path, smart("mean"))
    fitted = made(codec="anchored+3vq+norm")
    fitted.add(ids=names(60), embeddings=topics(60, 8, 1))
    fitted._writer.fit(from_texts=False)
    yield fitted
    made.close()


@pytest.fixture
def gpu(monkeypatch):
    """Triton's interpreter in the place of a GPU; gives the lengths of what was copied to it."""
    pytest.importorskip("triton", minversion="3.8", reason="needs Triton 3.8, which has no wheel here")
    from smart_retrieval.index.codec import kernels_triton

    copied: list[int] = []

    class Interpreted(kernels_triton.DeviceCodec):
        def __init__(self, codec, device):
            assert device == "cuda"
            super().__init__(codec, "cpu")

        def upload(self, codes, offsets, anchors):
            copied.append(len(anchors))
            return super().upload(codes, offsets, anchors)

    monkeypatch.setattr(kernels_triton, "DeviceCodec", Interpreted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return copied


def assert_same(index: SmartIndex, **options: Any) -> None:
    asked = {**EXACT, **options}
    on_cpu = index.search(QUERIES, 7, device="cpu", **asked)
    on_gpu = index.search(QUERIES, 7, device="cuda", **asked)
    for first, second in zip(on_cpu, on_gpu, strict=True):
        assert [hit.id for hit in first] == [hit.id for hit in second]
        assert (first.candidates, first.searched) == (second.candidates, second.searched)
        for one, other in zip(first, second, strict=True):
            found = [other.score, other.anchor, other.late, other.neighbours or 0]
            assert found == pytest.approx([one.score, one.anchor, one.late, one.neighbours or 0], abs=2e-6)


def test_hits_are_those_of_the_cpu(index, gpu):
    assert index.codec().name == "anchored+3vq+norm"
    assert_same(index, lambda_anchor=0.5, lambda_late=3.0, floor=0.3)
    assert_same(index, feedback=0.5, neighbours=0.3)
    assert_same(index, where="id < 'd0020'")
    assert gpu == [60]
    index.add(ids=names(5, "new"), embeddings=topics(5, 8, 2))
    assert_same(index)
    assert gpu == [60, 5]
    index.delete(["d0003", "new0001"])
    assert_same(index)
    assert_same(index, where="id = 'nothing'")
    assert gpu == [60, 5, 5]  # only what is not in the mapped files yet


def test_ties_are_ranked_by_id(index, gpu):
    one = documents([6], seed=5)
    index.add(ids=["z", "a"], embeddings=one[[0, 0]])
    index.optimize()
    index.add(ids=["y", "b"], embeddings=one[[0, 0]])
    hits = index.search(one, 3, device="cuda", **EXACT)[0]
    assert [hit.id for hit in hits] == ["a", "b", "y"]
    assert len({hit.score for hit in hits}) == 1


@pytest.mark.usefixtures("gpu")
def test_only_codebooks_have_kernels(tmp_path, smart):
    made = Indexes(tmp_path, smart("mean"))
    plain = made(topics(20, 4, 1))
    with pytest.raises(SmartError, match=r"float32.*codebook"):
        plain.search(QUERIES, device="cuda", **EXACT)
    made.close()


def test_what_is_no_device_is_refused(index):
    with pytest.raises(SmartError, match=r"'gpu'.*cuda:1"):
        index.search(QUERIES, device="gpu", **EXACT)


def test_without_a_gpu(index, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SmartError, match="no GPU"):
        index.search(QUERIES, device="cuda", **EXACT)
    monkeypatch.setattr(device_module, "PATIENCE", 0)
    expected = index.search(QUERIES, device="cpu", **EXACT)
    assert index.search(QUERIES, **EXACT) == expected


def test_auto_waits_until_it_is_worth_it_and_gives_up_once(index, monkeypatch):
    calls: list[int] = []

    def broken(*arguments: object) -> None:
        calls.append(1)
        raise RuntimeError("no driver\nand much more")

    find = importlib.util.find_spec
    monkeypatch.setattr(device_module.importlib.util, "find_spec", lambda name: name == "triton" or find(name))
    monkeypatch.setattr(DeviceSearch, "_scored", broken)
    expected = index.search(QUERIES, device="cpu", **EXACT)
    search = functools.partial(index.search, QUERIES, device="auto", **EXACT)
    assert search() == expected
    assert not calls
    monkeypatch.setattr(device_module, "PATIENCE", 60 * 8 * 20)
    with pytest.warns(SmartWarning, match="no driver$"):
        assert search() == expected
    assert search() == expected
    assert calls == [1]
    with pytest.raises(RuntimeError, match="no driver"):
        search(device="cuda")


@pytest.mark.usefixtures("gpu")
def test_a_full_gpu_is_not_used(index, monkeypatch):
    search = DeviceSearch("cuda")
    from smart_retrieval.index.codec.kernels_triton import DeviceCodec

    scorer = type("Scorer", (), {"device": torch.device("cuda:0"), "room": staticmethod(DeviceCodec.room)})()
    segments = list(index.searcher.mirror().snapshot().segments)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100_000, 1 << 30))
    search._check_room(scorer, segments, 60)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000, 1 << 30))
    with pytest.raises(SmartError, match=r"cuda:0.*room"):
        search._check_room(scorer, segments, 60)
