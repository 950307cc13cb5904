"""A small index that all retrievers search, and what a search in a thread may not do."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest
from fixtures.library import METADATA, TEXTS
from fixtures.pages_of_docs import blocks

from smart_retrieval import SmartIndex


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


@pytest.fixture
def guide(folder, tmp_path, monkeypatch):
    """``guide(framework, llm)``: the names that a framework's example in the guide ends with."""

    def run(framework, llm):
        page = (Path(__file__).parents[2] / "docs" / "guides" / "rag.md").read_text(encoding="utf-8")
        code = next(one for one in blocks(page, "python") if f"integrations.{framework} import SmartRetriever" in one)
        shutil.copytree(folder, tmp_path / "docs.smart")
        monkeypatch.chdir(tmp_path)
        names = {"llm": llm, "__name__": "guide"}
        exec(compile(code, f"rag.md: {framework}", "exec"), names)
        return names

    return run
