"""What a server does, without HTTP: indexes by name for callers with roles and tenants, under limits of load."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from ..embeddings import SmartEmbeddings
from ..errors import EmptyInputError, NotAllowedError, OverloadedError, SmartError
from ..index.encoder import EncodedItem
from ..index.explain.explanation import Explanation
from ..index.explain.shown_pictures import ShownPictures
from ..index.search.hits import Hits
from ..index.store.records import Document
from ..inputs import Item
from .access import Caller
from .requests import Form, IndexInfo, NewDocument, Query, QueryOptions, require_content, search_options
from .settings import ServerSettings, named_paths
from .stored import AnyIndex, Stored
from .work import reading, writing
from .work.catalog import Catalog
from .work.garbage import Collector
from .work.jobs import Job, Jobs
from .work.lanes import TOGETHER, Each, Lane
from .work.messages import Messages
from .work.pictures import picture_of
from .work.searching import Asked, SearchEach
from .work.warmup import Warmup

T = TypeVar("T")
# Documents of a job that are encoded and committed together; other writes get their turn in between.
_JOB_BATCH = 64
_SWEEP_S = 5.0
_MOST_INFOS = 1000


class Service:
    """Indexes for callers. All methods that look into an index are coroutines and run in the service's own threads.

    Every method takes the caller first; its fixed filter and its tenant are applied in ``access.py``, and nowhere
    else. Documents of others look as if they were not there. Errors are :class:`~smart_retrieval.errors.SmartError`;
    :meth:`public_message` gives their text without paths of this machine.

    Args:
        indexes: Their folders, ``"NAME=FOLDER"``, or folders by name.
        settings: Limits and switches.

    Raises:
        ServerError: There is no index, or two of one name.

    Example:
        >>> async def ask():  # doctest: +SKIP
        ...     async with Service(["docs.smart"]) as service:
        ...         hits = await service.search(Caller(), "docs", Query("how do I rotate the logs"), k=3)
        ...         return [hit.id for hit in hits]
    """

    def __init__(
        self, indexes: Sequence[str | Path] | Mapping[str, str | Path], settings: ServerSettings | None = None
    ) -> None:
        self.settings = settings = settings or ServerSettings()
        self.catalog = Catalog(
            named_paths(indexes), read_only=settings.read_only, model=settings.model, idle_s=settings.idle_s
        )
        self.messages = Messages(self.catalog.paths)
        self._own_state = None if settings.state_dir else tempfile.TemporaryDirectory(prefix="smart-serve-")
        self._jobs = Jobs(settings.state_dir or Path(self._own_state.name if self._own_state else "") / "jobs")
        self._searchers = Lane("search", settings.search_threads, settings.waiting)
        self._encoder = Lane("encoder", 1, settings.waiting)
        self._encoding: dict[str, Each] = {}
        self._writer = Lane("write", 1, settings.waiting)
        self._background: set[asyncio.Task[Any]] = set()
        self._infos: dict[tuple[str, str | None, bool], tuple[tuple[object, ...], IndexInfo]] = {}
        #: Python's garbage collector, for processes that do nothing else.
        self.collector = Collector()
        #: What is loaded before queries and additions are answered.
        self.warmup = Warmup(
            self.catalog, self._encoder, self._searchers, self._writer, self.public_message, self.collector,
            read_only=settings.read_only,
        )  # fmt: skip

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._in_background(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way, jobs at the end of their batch, and close the indexes."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for lane in (self._encoder, self._searchers, self._writer):
            await asyncio.to_thread(lane.close)
        self.catalog.close()
        self.collector.release()
        if self._own_state is not None:
            self._own_state.cleanup()

    def warm_up(self) -> None:
        """Load what is needed, while requests that need nothing of it are answered already."""
        self._in_background(self.warmup.for_all())

    @property
    def waiting(self) -> dict[str, int]:
        """Requests that wait or run, by the threads that serve them."""
        return {lane.name: lane.pending for lane in (self._encoder, self._searchers, self._writer)}

    def public_message(self, error: BaseException) -> str:
        """What an error says, without paths of this machine."""
        return self.messages.of(error)

    # -- reading -----------------------------------------------------------------------------------------------

    async def indexes(self, caller: Caller) -> list[IndexInfo]:
        """All indexes that can be opened, as this caller sees them."""
        found = []
        for name in self.catalog.paths:
            with suppress(SmartError):
                found.append(await self.info(caller, name))
        return found

    async def info(self, caller: Caller, index: str) -> IndexInfo:
        """What an index holds, as this caller sees it.

        Raises:
            UnknownIndexError: There is none of this name.
        """
        writable = caller.role == "write" and not self.settings.read_only
        key = (index, caller.fixed, writable)

        def run(opened: AnyIndex) -> IndexInfo:
            # A page asks for it with every search, and to count a tenant's documents takes a look at all of them.
            state = Stored(opened).version, opened.encoder.loaded is not None
            known = self._infos.get(key)
            if known is None or known[0] != state:
                known = state, reading.info(opened, index, caller, writable=writable)
                self._infos[key] = known
                while len(self._infos) > _MOST_INFOS:
                    self._infos.pop(next(iter(self._infos)), None)
            return known[1]

        return await self._searching(index, run)

    async def search(
        self,
        caller: Caller,
        index: str,
        query: Query,
        k: int = 10,
        options: QueryOptions | None = None,
        *,
        thumbnails: bool = False,
    ) -> Hits:
        """Search for one query; ids and sources of the hits are as the caller knows them.

        Args:
            caller: Who asks.
            index: The index's name.
            query: The query.
            k: Hits wanted.
            options: Filter, scoring and the like; ``deadline_ms`` counts from now, waiting included.
            thumbnails: With the thumbnails of pictures, which otherwise are empty.

        Raises:
            UnknownIndexError: There is none of this name.
            FilterError: The filter cannot be read.
            OverloadedError: Too many requests wait.
            DeadlineError: The deadline passed before the search began.
            SmartError: As for :meth:`~smart_retrieval.SmartIndex.search`, or a number beyond the server's limits.
        """
        return (await self._search(caller, index, query, k, options, thumbnails, 0))[0]

    async def search_explained(
        self,
        caller: Caller,
        index: str,
        query: Query,
        k: int = 10,
        options: QueryOptions | None = None,
        *,
        explained: int = 20,
    ) -> tuple[Hits, list[Explanation]]:
        """:meth:`search`, and explanations of the first hits: fewer where the deadline is near.

        They hold the anchor and the tokens; what other options add is told by :meth:`explain` alone.
        """
        return await self._search(caller, index, query, k, options, False, explained)

    async def _search(
        self,
        caller: Caller,
        index: str,
        query: Query,
        k: int,
        options: QueryOptions | None,
        thumbnails: bool,
        explained: int,
    ) -> tuple[Hits, list[Explanation]]:
        options = options or {}
        within = reading.of_kinds(caller.within(options.get("where")), options.get("kinds", ()))
        chosen = {**search_options(options, self.settings, k), "where": within}
        deadline = options.get("deadline_ms")
        until = self._until(deadline)
        each = SearchEach(self.catalog, index, caller, k, chosen, thumbnails, deadline, self._is_busy)
        if explained:
            asked = Asked(await self._encoded(index, query, until), until)
            return await self._searchers.run(lambda: each.explained(asked, explained), until)
        item, prepared = await self._item(index, query, until), functools.partial(Asked, until=until)
        encode = self._encode_each(index)
        return await self._encoder.run_through(encode, item, self._searchers, each, prepared, until), []

    async def search_many(
        self,
        caller: Caller,
        index: str,
        queries: Sequence[Query],
        k: int = 10,
        options: QueryOptions | None = None,
        *,
        thumbnails: bool = False,
    ) -> list[Hits]:
        """:meth:`search` for several queries, each as if it came alone.

        Raises:
            SmartError: More queries than the server takes; or as for :meth:`search`.
        """
        found = self.search_stream(caller, index, queries, k, options, thumbnails=thumbnails)
        return [hits async for hits in found]

    async def search_stream(
        self,
        caller: Caller,
        index: str,
        queries: Sequence[Query],
        k: int = 10,
        options: QueryOptions | None = None,
        *,
        thumbnails: bool = False,
    ) -> AsyncIterator[Hits]:
        """:meth:`search_many`, each query's hits as soon as they and those before them are found."""
        self._check_count("queries", len(queries), self.settings.max_queries)

        async def search(query: Query) -> Hits:
            return await self.search(caller, index, query, k, options, thumbnails=thumbnails)

        async with aclosing(self._side_by_side(search, queries)) as found:
            async for hits in found:
                yield hits

    async def explain(
        self, caller: Caller, index: str, query: Query, id: str, options: QueryOptions | None = None
    ) -> Explanation:
        """Take one document's score apart; options are those of the search.

        Raises:
            UnknownIdError: There is no such document for this caller.
            SmartError: It does not pass the request's filter; or as for :meth:`search`.
        """
        return await self._explained(caller, index, query, id, options, reading.shown_explanation)

    async def explain_as(
        self, caller: Caller, index: str, query: Query, id: str, form: Form, options: QueryOptions | None = None
    ) -> bytes:
        """:meth:`explain` as a web page or a picture. Pages of files are drawn only if the index read these files."""

        def drawn(found: Explanation, caller: Caller) -> bytes:
            return reading.drawn(found, caller, form, self.messages)

        return await self._explained(caller, index, query, id, options, drawn)

    async def explain_with_pictures(
        self, caller: Caller, index: str, query: Query, id: str, options: QueryOptions | None = None
    ) -> tuple[Explanation, ShownPictures]:
        """:meth:`explain`, and the pictures or pages of the document, as :meth:`explain_as` draws them."""

        def pictured(found: Explanation, caller: Caller) -> tuple[Explanation, ShownPictures]:
            return reading.with_pictures(found, caller, self.messages)

        return await self._explained(caller, index, query, id, options, pictured)

    async def _explained(
        self,
        caller: Caller,
        index: str,
        query: Query,
        id: str,
        options: QueryOptions | None,
        show: Callable[[Explanation, Caller], T],
    ) -> T:
        options = options or {}
        chosen, until = search_options(options, self.settings, 1), self._until(options.get("deadline_ms"))
        within = reading.of_kinds(caller.within(options.get("where")), options.get("kinds", ()))
        asked = await self._encoded(index, query, until)

        def run(opened: AnyIndex) -> T:
            (stored,) = caller.require(Stored(opened), [id])
            return show(opened.explain(asked, stored, **{**chosen, "where": within}), caller)

        return await self._searching(index, run, until)

    async def get(self, caller: Caller, index: str, ids: Sequence[str], *, thumbnails: bool = False) -> list[Document]:
        """Documents by id, in the order asked for; with the thumbnails of pictures if asked for.

        Raises:
            UnknownIdError: There is no such document for this caller.
        """
        return await self._searching(
            index, lambda opened: reading.documents(opened, caller, ids, thumbnails=thumbnails)
        )

    async def select(
        self, caller: Caller, index: str, where: str | None = None, *, after: str = "", k: int = 100
    ) -> tuple[list[Document], str | None]:
        """Documents that pass a filter, in the order of their stored ids; and ``after`` for the next, if any."""
        within = caller.within(where)
        self._check_count("k", k, self.settings.max_k)
        return await self._searching(index, lambda opened: reading.selected(opened, caller, within, after, k))

    async def encode(
        self, caller: Caller, index: str, items: Sequence[Query], side: Literal["query", "document"] = "query"
    ) -> SmartEmbeddings:
        """Anchors and token vectors of texts and pictures, by an index's model; nothing is stored."""
        self._check_count("inputs", len(items), self.settings.max_queries)
        until = self._until(None)
        if side == "query":

            async def encoded(item: Query) -> EncodedItem:
                return await self._encoded(index, item, until)

            async with aclosing(self._side_by_side(encoded, items)) as found:
                parts = [one.encoded async for one in found if one.encoded is not None]
            return SmartEmbeddings.concatenate(parts)
        prepared = await self._pictures(items, until)
        return await self._writing(index, lambda opened: writing.encode_documents(opened, prepared), until)

    async def rerank(
        self,
        caller: Caller,
        index: str,
        query: Query,
        *,
        texts: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[float]:
        """Hybrid scores of texts, or of documents of an index, for a query, in the order given.

        Raises:
            EmptyInputError: Neither or both are given, or too many.
            UnknownIdError: There is no such document for this caller.
        """
        if (texts is None) == (ids is None):
            raise EmptyInputError("rerank: found neither or both of texts and ids, expected one of them")
        until = self._until(None)
        asked = await self._encoded(index, query, until)
        if ids is not None:
            self._check_count("ids", len(ids), self.settings.max_k)
            return await self._searching(index, lambda opened: reading.scores_of(opened, caller, asked, ids), until)
        assert texts is not None
        self._check_count("texts", len(texts), self.settings.max_queries)
        items = [Query(text) for text in texts]
        prepared = await self._pictures(items, until)
        encoded = await self._writing(index, lambda opened: writing.encode_documents(opened, prepared), until)
        return await self._searching(index, lambda opened: reading.scores_with(opened, asked, encoded), until)

    # -- writing -----------------------------------------------------------------------------------------------

    async def add(
        self, caller: Caller, index: str, documents: Sequence[NewDocument], *, replace: bool = False
    ) -> list[str] | Job:
        """Add documents; with a tenant's mark where the caller has one.

        Args:
            caller: Who asks.
            index: The index's name.
            documents: The documents.
            replace: Replace those whose ids are there; else they are an error.

        Returns:
            Their ids, once they are on the disk; or a job, where they are more than a request waits for.

        Raises:
            NotAllowedError: The caller only reads, or a document is marked as another tenant's.
            DuplicateIdError: An id is there already.
            SmartError: A document cannot be stored; none of the request is, unless it became a job.
        """
        self._require_write(caller, index)
        self._check_count("documents", len(documents), self.settings.max_documents)
        new = writing.checked(documents, caller, self.settings)
        if len(new) <= self.settings.sync_documents:
            until = self._until(None)
            prepared = await self._pictures([Query(one.text, one.image) for one in new], until)
            return await self._writing(
                index, lambda opened: writing.add(opened, caller, new, prepared, replace=replace), until
            )
        running = sum(1 for task in self._background if task.get_name() == "job")
        if running >= self.settings.max_jobs:
            raise OverloadedError(f"found {running} jobs under way, expected fewer; try again when one is done")
        job = self._jobs.create(index, _owner(caller), len(new))
        self._in_background(self._run_job(job, caller, new, replace), name="job")
        return job

    async def upsert(self, caller: Caller, index: str, documents: Sequence[NewDocument]) -> list[str] | Job:
        """:meth:`add`, replacing documents whose ids are there."""
        return await self.add(caller, index, documents, replace=True)

    async def delete(
        self, caller: Caller, index: str, ids: Sequence[str] | None = None, *, where: str | None = None
    ) -> int:
        """Delete documents by id or by filter, as one commit; how many.

        Raises:
            NotAllowedError: The caller only reads, or a document is shared with other tenants.
            UnknownIdError: There is no such document for this caller; nothing was deleted then.
            EmptyInputError: Neither or both of ids and filter are given.
        """
        self._require_write(caller, index)
        if (ids is None) == (where is None or not where.strip()):
            raise EmptyInputError("delete: found neither or both of ids and where, expected one of them")
        within = None if where is None else caller.within(where)
        return await self._writing(index, lambda opened: writing.delete(opened, caller, ids, within))

    def job(self, caller: Caller, id: str) -> Job:
        """The state of a job of this caller.

        Raises:
            UnknownIndexError: There is none.
        """
        return self._jobs.find(id, _owner(caller))

    async def _run_job(self, job: Job, caller: Caller, new: Sequence[NewDocument], replace: bool) -> None:
        try:
            for start in range(0, len(new), _JOB_BATCH):
                part = new[start : start + _JOB_BATCH]
                prepared = await self._pictures([Query(one.text, one.image) for one in part], None)
                await self._patiently(
                    job.index,
                    lambda opened: writing.add(opened, caller, part, prepared, replace=replace),  # noqa: B023
                )
                job = self._jobs.change(job, state="running", added=start + len(part))
            self._jobs.change(job, state="done")
        except asyncio.CancelledError:
            self._jobs.change(job, state="failed", error="the server was stopped; what was added stays")
            raise
        except Exception as error:
            self._jobs.change(job, state="failed", error=self.public_message(error))

    async def _patiently(self, index: str, run: Callable[[AnyIndex], T]) -> T:
        """In the writer, however long that takes."""
        while True:
            with suppress(OverloadedError):
                return await self._writing(index, run)
            await asyncio.sleep(0.5)

    # -- helpers -----------------------------------------------------------------------------------------------

    def _require_write(self, caller: Caller, index: str) -> None:
        self.catalog.require(index)
        if self.settings.read_only:
            raise NotAllowedError("this server only reads")
        caller.require_write()

    def _check_count(self, what: str, count: int, most: int) -> None:
        if not 1 <= count <= most:
            raise EmptyInputError(f"{what}: found {count}, expected 1 to {most}")

    def _until(self, deadline_ms: float | None) -> float:
        allowed = self.settings.deadline_ms
        if deadline_ms is not None:
            if not deadline_ms >= 0:
                raise SmartError(f"deadline_ms: found {deadline_ms}, expected 0 or more")
            allowed = min(allowed, deadline_ms)
        return time.perf_counter() + allowed / 1000

    async def _side_by_side(
        self, work: Callable[[Query], Awaitable[T]], queries: Sequence[Query]
    ) -> AsyncGenerator[T, None]:
        """Results in the order of the queries, each as soon as it and those before it are there."""
        # As many at a time as are made together, but not so many that one request fills the queue.
        limits = self.settings
        slots = asyncio.Semaphore(min(TOGETHER, max(2 * limits.search_threads, limits.waiting // 2)))

        async def one(query: Query) -> T:
            async with slots:
                return await work(query)

        tasks = [asyncio.ensure_future(one(query)) for query in queries]
        try:
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()  # the others of one that failed, or of a reader that is gone

    async def _encoded(self, index: str, query: Query, until: float) -> EncodedItem:
        """A query with its encoding, made by the one thread that encodes, together with others that wait for it."""
        item = await self._item(index, query, until)
        encoded: EncodedItem = await self._encoder.run_each(self._encode_each(index), item, until)
        return encoded

    async def _item(self, index: str, query: Query, until: float) -> Item:
        """What is to be encoded."""
        require_content("query", query.text, query.image)
        self.catalog.require(index)
        (item,) = await self._pictures([query], until)
        return item

    def _encode_each(self, index: str) -> Each:
        """What encodes queries to an index: the same for all of them."""

        def each(items: list[Item]) -> Iterator[tuple[int, EncodedItem | SmartError]]:
            with self.catalog.use(index) as opened:
                yield from opened.encoder.encoded_each(items)

        return self._encoding.setdefault(index, each)

    async def _pictures(self, queries: Sequence[Query], until: float | None) -> list[Item]:
        """Items with their pictures decoded, by the searchers."""
        limit = self.settings.max_pixels

        async def one(query: Query) -> Item:
            data = query.image
            if data is None:
                return Item(query.text)
            return Item(query.text, (await self._searchers.run(lambda: picture_of(data, limit), until),))

        return [await one(query) for query in queries]

    def _is_busy(self, queries: int) -> bool:
        """Whether more than so many are encoded or searched for."""
        return self._searchers.pending + self._encoder.pending > queries

    async def _searching(self, index: str, run: Callable[[AnyIndex], T], until: float | None = None) -> T:
        return await self._searchers.run(lambda: self._with(index, run), until)

    async def _writing(self, index: str, run: Callable[[AnyIndex], T], until: float | None = None) -> T:
        return await self._writer.run(lambda: self._with(index, run), until)

    def _with(self, index: str, run: Callable[[AnyIndex], T]) -> T:
        with self.catalog.use(index) as opened:
            return run(opened)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            if await asyncio.to_thread(self.catalog.sweep):
                self.collector.settle()

    def _in_background(self, work: Any, name: str = "") -> None:
        task = asyncio.get_running_loop().create_task(work, name=name or None)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _owner(caller: Caller) -> str:
    return f"{caller.name}\n{caller.fixed or ''}"
