"""The front of served shards: encodes a query once, asks all shards, and answers over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import errors
from ...core.collection import CollectionStatistics
from ...embeddings import SmartEmbeddings
from ...errors import DeadlineError, OverloadedError, SmartError, UnknownIndexError
from ...extras import require
from ...index.search.hits import Hits
from ...index.search.options import check_words
from ...index.shards.gather import gather, shard_settings, summed_idf
from ...index.smart_index import SmartIndex
from ...inputs import Item
from ...server.access import Caller
from ...server.http.answers import Answer, caller_of, status_of
from ...server.http.schemas import SearchRequest, query_of
from ...server.http.security import Guard, error_body
from ...server.requests import Query, require_content, search_options
from ...server.settings import ServerSettings
from ...server.tokens import TokenFile
from ...server.work.messages import Messages
from ...server.work.pictures import picture_of
from ...server.work.reading import shown_hits
from .shard import ShardAnswer, ShardFacts, ShardQuery

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

# Seconds beyond a deadline until a shard that has not answered is left out: it stops by itself at the deadline.
_GRACE = 0.05
# Seconds until a shard whose replica has just died is asked again, which finds another replica.
_AGAIN = 0.02
# Shards are asked for their facts with this much patience: a replica may be starting.
_FACTS_S = 60.0


class Front:
    """Answers searches over all shards.

    Args:
        name: The index's name in URLs.
        folder: The first shard, whose model encodes queries.
        model: The model, if it was moved since.
        settings: Limits, tokens and hosts.
        shards: Handles of the shards' deployments, in their order.
    """

    def __init__(self, name: str, folder: str, model: str | None, settings: ServerSettings, *shards: Any) -> None:
        self.name, self.settings = name, settings
        self._shards: Sequence[Any] = shards
        self._folder, self._model = folder, model
        self._facts: list[ShardFacts | None] = [None] * len(shards)
        self._learning: set[int] = set()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        # Before the first request comes: loading a model takes longer than a search may.
        self._first: SmartIndex | None = None
        self._encoder.submit(self._encoded, Query("ready")).result()
        self._messages = Messages({name: Path(folder).parent})
        self._app = Guard(self._routes(), settings)

    # -- searching ---------------------------------------------------------------------------------------------

    async def search(self, caller: Caller, query: Query, asked: SearchRequest) -> Hits:
        """Hits of all shards; partial where one was too late or is not there."""
        started = time.monotonic()
        options, settings = asked.options(), self.settings
        require_content("query", query.text, query.image)
        given = {**search_options(options, settings, asked.k), "where": caller.within(options.get("where"))}
        limit = min(options.get("deadline_ms") or settings.deadline_ms, settings.deadline_ms)
        until = started + limit / 1000
        statistics, scoring = await self._statistics()
        encoded = await asyncio.get_running_loop().run_in_executor(self._encoder, self._encoded, query)
        texts = [query.text]
        chosen = shard_settings(given, asked.k, scoring, statistics)  # type: ignore[arg-type]
        check_words(texts, chosen.lexical_weight, None)
        rounds = gather(encoded, texts, chosen, given["where"], len(self._shards))
        try:
            question = next(rounds)
            while True:
                left = (until - time.monotonic()) * 1000
                if left <= 0:
                    raise DeadlineError(f"the time of {limit:g} ms was over before the search was through")
                question = rounds.send(await self._round(ShardQuery.of(question, left), until))
        except StopIteration as ended:
            (found,) = ended.value
        return shown_hits(found, caller, thumbnails=asked.thumbnails)

    async def _round(self, message: ShardQuery, until: float) -> list[Any]:
        """The answers of all shards to one question, but for those that are late."""
        tasks = [asyncio.ensure_future(self._ask(number, message, until)) for number in range(len(self._shards))]
        try:
            await asyncio.wait(tasks, timeout=message.deadline_ms / 1000 + _GRACE)
        finally:
            for task in tasks:
                task.cancel()
        answers = [task.result() for task in tasks if task.done() and not task.cancelled() and not task.exception()]
        for answer in answers:
            if answer.error is not None:
                raise _error_of(*answer.error)
        if not answers:
            raise OverloadedError("no shard has answered in time; try again a little later")
        return [answer.answer for answer in answers]

    async def _ask(self, number: int, message: ShardQuery, until: float) -> ShardAnswer:
        """A shard's answer; of another replica where one has died meanwhile."""
        died = require("ray.exceptions", "ray").RayActorError
        while True:
            try:
                answer: ShardAnswer = await self._shards[number].search.remote(message)
            except died:
                if time.monotonic() + _AGAIN > until:
                    raise
                await asyncio.sleep(_AGAIN)
                continue
            known = self._facts[number]
            if answer.error is None and (known is None or known.version != answer.version):
                self._learn_later(number)
            return answer

    def _encoded(self, query: Query) -> SmartEmbeddings:
        """A query's encoding, in the one thread that encodes."""
        if self._first is None:
            self._first = SmartIndex.open(self._folder, self._model, mode="r")
        images = () if query.image is None else (picture_of(query.image, self.settings.max_pixels),)
        return self._first.encoder.encode_queries([Item(query.text, images)])[1]

    def close(self) -> None:
        """End the encoder's thread, and close the index whose model it has."""
        self._encoder.shutdown()
        if self._first is not None:
            self._first.close()

    # -- what is known of the shards -----------------------------------------------------------------------------

    async def _statistics(self) -> tuple[CollectionStatistics, Any]:
        """IDF over all shards, their calibration and scoring."""
        missing = [number for number, known in enumerate(self._facts) if known is None]
        if missing:
            await asyncio.gather(*map(self._learn, missing))
        facts = [known for known in self._facts if known is not None]
        first = facts[0]
        return CollectionStatistics(
            lambda: summed_idf([one.idf for one in facts]), lambda: first.calibration
        ), first.scoring

    async def _learn(self, number: int) -> None:
        async def ask() -> ShardFacts:
            found: ShardFacts = await self._shards[number].facts.remote()
            return found

        try:
            self._facts[number] = await asyncio.wait_for(ask(), _FACTS_S)
        except Exception as error:  # Ray's own kinds, and a time-out
            raise OverloadedError(f"shard {number} cannot be reached; try again a little later") from error

    def _learn_later(self, number: int) -> None:
        """Learn anew what was changed or replaced, while searches go on."""
        if number in self._learning:
            return
        self._learning.add(number)

        async def learn() -> None:
            try:
                await self._learn(number)
            except OverloadedError:
                pass
            finally:
                self._learning.discard(number)

        self._task = asyncio.ensure_future(learn())

    # -- HTTP --------------------------------------------------------------------------------------------------

    async def __call__(self, request: Request) -> Response:
        """Answer one request, as Ray Serve passes it on."""
        from starlette.responses import Response

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(request.scope, request.receive, send)
        answer = Response(b"".join(one.get("body", b"") for one in sent[1:]), sent[0]["status"])
        answer.raw_headers = list(sent[0]["headers"])
        return answer

    def _routes(self) -> Starlette:
        from pydantic import ValidationError
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        async def named(request: Request, error: Exception) -> Response:
            assert isinstance(error, SmartError)
            status = status_of(error)
            headers = {"Retry-After": "1"} if status == 503 else None
            return Answer(error_body(type(error).__name__, self._messages.of(error)), status, headers)

        async def refused(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            return Answer(error_body("RequestError", error.detail), error.status_code, dict(error.headers or {}))

        async def invalid(request: Request, error: Exception) -> Response:
            assert isinstance(error, ValidationError)
            found = [f"{'.'.join(str(part)[:40] for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]]
            return Answer(error_body("ValidationError", "; ".join(found)[:2000]), 422)

        app = Starlette(
            routes=[
                Route("/healthz", self._healthy),
                Route("/readyz", self._ready),
                Route("/v1/indexes", self._indexes),
                Route("/v1/indexes/{index}/search", self._search, methods=["POST"]),
            ],
            exception_handlers={SmartError: named, HTTPException: refused, ValidationError: invalid},
        )
        token_file = self.settings.token_file
        app.state.tokens = None if token_file is None else TokenFile(token_file, self.settings.tenant_field)
        return app

    async def _healthy(self, request: Request) -> Response:
        return Answer({"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        await self._statistics()
        return Answer({"status": "ready", "shards": len(self._shards)})

    async def _indexes(self, request: Request) -> Response:
        caller = caller_of(request)
        await self._statistics()
        documents = sum(one.documents for one in self._facts if one is not None)
        about = {"name": self.name, "shards": len(self._shards)}
        return Answer({"indexes": [about if caller.fixed else {**about, "documents": documents}]})

    async def _search(self, request: Request) -> Response:
        caller = caller_of(request)
        if request.path_params["index"] != self.name:
            raise UnknownIndexError(f"found no index {request.path_params['index']!r}, expected {self.name!r}")
        asked = SearchRequest.model_validate_json(await request.body())
        if asked.rerank or asked.group_by:
            raise SmartError("rerank, group_by: shards on a cluster do not have them; expected neither")
        if asked.queries is None:
            hits = await self.search(caller, query_of(asked.query or ""), asked)
            return Answer(hits.to_dict(thumbnails=asked.thumbnails))
        if len(asked.queries) > self.settings.max_queries:
            raise SmartError(f"queries: found {len(asked.queries)}, expected at most {self.settings.max_queries}")
        found = await asyncio.gather(*(self.search(caller, query_of(query), asked) for query in asked.queries))
        return Answer({"results": [hits.to_dict(thumbnails=asked.thumbnails) for hits in found]})


def _error_of(kind: str, message: str) -> SmartError:
    """The error that a shard has told."""
    known = getattr(errors, kind, SmartError)
    return known(message) if isinstance(known, type) and issubclass(known, SmartError) else SmartError(message)
