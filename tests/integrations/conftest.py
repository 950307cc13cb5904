"""A small index that all retrievers search, and what a search in a thread may not do."""

import asyncio
import threading

import pytest

from smart_retrieval import SmartIndex

TEXTS = {
    "otter": "the otter swims in the cold river",
    "tax": "tax is due in the morning",
    "moon": "the moon is out and the sun is down",
    "bread": "people who write about bread and butter",
    "mouse": "the quick mouse",
}
METADATA = {
    "otter": {"year": 2020, "tags": ["river", "animal"], "lang": "en", "page": "mine"},
    "tax": {"year": 2021, "lang": "en", "author": {"name": "O'Hara"}},
    "moon": {"year": 2022, "tags": ["sky"], "lang": "de"},
    "bread": {"lang": "de", "score": "high"},
    "mouse": {"year": 2020, "tags": ["animal"], "lang": "x' or '1' = '1"},
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory, smart):
    """The folder of an index of five documents, two with a source. Read-only."""
    path = tmp_path_factory.mktemp("integrations") / "library.smart"
    sources = ["river.md", "tax.pdf", None, None, None]
    with SmartIndex.create(path, smart("mean"), codec="float32") as index:
        pages = [None, 3, None, None, None]
        index.add(TEXTS.values(), ids=TEXTS, metadata=METADATA.values(), sources=sources, pages=pages)
    return path


@pytest.fixture
def library(folder, smart):
    """The same, open."""
    with SmartIndex.open(folder, smart("mean"), mode="r") as index:
        yield index


@pytest.fixture
def loop_goes_on(monkeypatch):
    """``loop_goes_on(call)``: runs a coroutine function whose search waits for what only the event loop can do."""

    def run(call):
        released, search = threading.Event(), SmartIndex.search

        def waiting(self, *args, **options):
            assert released.wait(10), "the search blocks the event loop"
            return search(self, *args, **options)

        async def both():
            asyncio.get_running_loop().call_later(0.01, released.set)
            return await call()

        monkeypatch.setattr(SmartIndex, "search", waiting)
        return asyncio.run(both())

    return run
