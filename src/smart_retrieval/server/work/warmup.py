"""What a server loads before it answers queries, and after that for additions."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Literal

from ...errors import SmartError
from ...inputs import Item
from ..stored import Stored
from .catalog import Catalog
from .garbage import Collector
from .lanes import Lane

LOG = logging.getLogger("smart_retrieval.server")
# Before what writes need is loaded, which takes Python's lock for long: whoever waits for the server hears of it first.
_PAUSE_S = 0.25


class Warmup:
    """Loads encoders and the mapped files of every index, then the models that encode documents.

    Args:
        catalog: The indexes.
        encoder: Where queries are encoded.
        searchers: Where they are searched for.
        writer: Where documents are added.
        message: The text of an error as callers may see it.
        collector: What is told when all is loaded.
        read_only: Nothing is loaded for additions.

    Attributes:
        unready: Why queries are not answered yet; None once they are.
        writes: Whether documents can be added; an addition waits for what is left of loading.
    """

    def __init__(
        self,
        catalog: Catalog,
        encoder: Lane,
        searchers: Lane,
        writer: Lane,
        message: Callable[[BaseException], str],
        collector: Collector,
        *,
        read_only: bool,
    ) -> None:
        self._catalog, self._encoder, self._searchers, self._writer = catalog, encoder, searchers, writer
        self._message, self._collector = message, collector
        self._begun: dict[str, list[Future[None]]] = {}
        self.unready: str | None = "the models are loading"
        self.writes: Literal["off", "loading", "ready", "failed"] = "off" if read_only else "loading"

    def begin(self) -> None:
        """Begin :meth:`for_queries` in the lanes' threads, where there is no event loop yet."""
        if not self._begun:
            for name in self._catalog.paths:
                # Side by side: the one waits for files and ONNX Runtime, the other for NumPy.
                files = self._searchers.submit(functools.partial(self._load_files, name))
                self._begun[name] = [files, self._encoder.submit(functools.partial(self._load_encoder, name))]

    async def for_queries(self) -> None:
        """Load what queries need. Afterwards :attr:`unready` is None.

        Raises:
            SmartError: An index or its model cannot be loaded.
        """
        self.begin()
        begun, self._begun = self._begun, {}
        for name, loaded in begun.items():
            try:
                for one in loaded:
                    await asyncio.wrap_future(one)
            except SmartError as error:
                self.unready = f"index {name!r}: {self._message(error)}"
                raise
        self.unready = None

    async def for_all(self) -> None:
        """Load what queries need, and behind the first answers what additions do."""
        try:
            with suppress(SmartError):  # which `unready` tells
                await self.for_queries()
                await asyncio.sleep(_PAUSE_S)
                for name in self._catalog.paths:  # so that the next start is quicker
                    await self._writer.run(functools.partial(self._export, name))
                if self.writes != "off":
                    await self._for_writes()
        finally:
            self._collector.settle()

    async def _for_writes(self) -> None:
        """Load what encodes documents: not in a lane, so that nothing waits for it but what needs it, too."""
        for name in self._catalog.paths:
            try:
                await asyncio.to_thread(self._load_model, name)
            except SmartError as error:
                self.writes = "failed"
                LOG.warning("index %r takes no documents: %s", name, error)
        if self.writes == "loading":
            self.writes = "ready"

    def _load_files(self, name: str) -> None:
        with self._catalog.use(name) as opened:
            for shard in Stored(opened).shards:
                shard.searcher.load()

    def _load_encoder(self, name: str) -> None:
        with self._catalog.use(name) as opened:
            opened.search(opened.encoder.encoded(Item("warm")), 1)

    def _export(self, name: str) -> Any:
        with self._catalog.use(name) as opened:
            return opened.encoder.export()

    def _load_model(self, name: str) -> None:
        with self._catalog.use(name) as opened:
            opened.encoder.document_model()
