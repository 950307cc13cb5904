from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import time
from io import BytesIO

import pytest
from fixtures.callers import ACME, ADMIN, BETA, FIELD, READER
from fixtures.tiny_models import TEXTS

from smart_retrieval.errors import (
    DeadlineError,
    DuplicateIdError,
    EmptyInputError,
    FilterError,
    NotAllowedError,
    OverloadedError,
    ScoringError,
    SmartError,
    UnknownIdError,
    UnknownIndexError,
)
from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings, Service
from smart_retrieval.server.requests import NewDocument, Query

SEA = Query("the otter swims in the sea")


def serving(work, *paths, **settings):
    """The result of ``work(service)``."""

    async def run():
        async with Service(paths, ServerSettings(**settings)) as service:
            return await work(service)

    return asyncio.run(run())


def flat(hits):
    return [(hit.id, hit.score, hit.anchor, hit.late, hit.lexical, hit.feedback) for hit in hits]


OPTIONS = [{}, {"lexical_weight": 3.0}, {"feedback": 0.3, "neighbours": 0.2}, {"where": "number > 3", "exact": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_hits_are_those_of_the_index(folder, options):
    with SmartIndex.open(folder) as index:
        wanted = index.search(SEA.text, 8, **options)
    found = serving(lambda service: service.search(ADMIN, "sea", SEA, 8, options), folder)
    assert flat(found) == flat(wanted)
    assert (found.searched, found.candidates, found.best) == (wanted.searched, wanted.candidates, wanted.best)


def test_many_at_once_give_what_each_gives_alone(folder):
    queries = [Query(text) for text in TEXTS * 4]
    with SmartIndex.open(folder) as index:
        wanted = [flat(index.search(query.text, 5)) for query in queries]

    async def work(service):
        many = await service.search_many(ADMIN, "sea", queries, 5)
        alone = await asyncio.gather(*(service.search(ADMIN, "sea", query, 5) for query in queries))
        return many, alone

    many, alone = serving(work, folder)
    assert [flat(hits) for hits in many] == wanted
    assert [flat(hits) for hits in alone] == wanted


@pytest.mark.parametrize("waiting", [3, 256])
def test_many_queries_are_encoded_in_their_order(folder, waiting):
    queries = [Query(text) for text in TEXTS * 6]

    async def work(service):
        many = await service.encode(READER, "sea", queries)
        return many, [await service.encode(READER, "sea", [query]) for query in queries]

    many, alone = serving(work, folder, waiting=waiting)
    for number, one in enumerate(alone):
        assert (many[number].anchors == one.anchors).all()
        assert (many[number].token_vectors == one.token_vectors).all()
    with pytest.raises(EmptyInputError):
        serving(lambda service: service.encode(READER, "sea", [*queries, Query("")]), folder)


def test_a_tenant_meets_only_its_own_documents(folder):
    async def work(service):
        found = await service.search(ACME, "sea", SEA, 100)
        assert {hit.id for hit in found} == {f"d{number}" for number in range(0, 17, 2)}
        assert found.searched == 9
        assert (await service.info(ACME, "sea")).documents == 9
        assert (await service.explain(ACME, "sea", SEA, "d0")).id == "d0"
        near = await service.explain(ACME, "sea", SEA, "d0", {"neighbours": 1.0, "feedback": 1.0})
        assert {id for part in near.added for id in part.like} <= {hit.id for hit in found}
        for call in (
            lambda: service.explain(ACME, "sea", SEA, "d1"),
            lambda: service.explain_as(ACME, "sea", SEA, "d1", "html"),
            lambda: service.get(ACME, "sea", ["d0", "d1"]),
            lambda: service.rerank(ACME, "sea", SEA, ids=["d1"]),
            lambda: service.delete(ACME, "sea", ["d0", "d1"]),
        ):
            with pytest.raises(UnknownIdError, match="found no document 'd1'"):
                await call()
        with pytest.raises(FilterError):
            await service.search(ACME, "sea", SEA, 5, {"where": "number = 1) or (number = 1"})
        with pytest.raises(FilterError):
            await service.delete(ACME, "sea", where="number = 1) or (number >= 0")
        documents, _ = await service.select(ACME, "sea", "number >= 0 or team = 'beta'", k=100)
        assert {document.id for document in documents} == {hit.id for hit in found}
        assert len(await service.get(ADMIN, "sea", [f"d{number}" for number in range(17)])) == 17

    serving(work, folder)


def test_a_tenant_writes_only_its_own_documents(folder):
    async def work(service):
        # Others' ids are free to use, and theirs stay what they are.
        assert await service.add(ACME, "sea", [NewDocument("bread and butter", "d1")]) == ["d1"]
        assert await service.upsert(ACME, "sea", [NewDocument("oil on water", "d3"), NewDocument("moon", "d0")])
        mine = await service.get(ACME, "sea", ["d1", "d3", "d0"])
        assert [(one.id, one.text, one.metadata[FIELD]) for one in mine] == [
            ("d1", "bread and butter", "acme"), ("d3", "oil on water", "acme"), ("d0", "moon", "acme"),
        ]  # fmt: skip
        assert [one.text for one in await service.get(BETA, "sea", ["d1", "d3"])] == [TEXTS[1], TEXTS[3]]
        assert "d1" in [hit.id for hit in await service.search(ACME, "sea", Query("bread and butter"), 2)]
        # Equal texts without ids are two documents.
        for caller in (ACME, BETA):
            (id,) = await service.add(caller, "sea", [NewDocument("cold river")])
            assert (await service.get(caller, "sea", [id]))[0].metadata == {FIELD: caller.name}
        with pytest.raises(DuplicateIdError, match="'d1' is there"):
            await service.add(ACME, "sea", [NewDocument("again", "d1")])
        for caller, document, error in (
            (ACME, NewDocument("x", "n", metadata={FIELD: "beta"}), NotAllowedError),
            (ACME, NewDocument("x", "d16"), NotAllowedError),
            (READER, NewDocument("x", "n"), NotAllowedError),
        ):
            with pytest.raises(error):
                await service.upsert(caller, "sea", [document])
        with pytest.raises(NotAllowedError, match="shared"):
            await service.delete(ACME, "sea", ["d16"])
        # What is shared stays, also by a filter.
        deleted = await service.delete(ACME, "sea", where="id exists")
        assert deleted == 8 + 2 + 1
        assert [document.id for document in (await service.select(ACME, "sea"))[0]] == ["d16"]
        assert len((await service.select(BETA, "sea"))[0]) == 10

    serving(work, folder)


def test_a_document_by_an_administrator_under_a_tenants_name_is_not_the_tenants(folder):
    async def work(service):
        await service.add(ADMIN, "sea", [NewDocument("secret", "acme::x", metadata={FIELD: "beta"})])
        with pytest.raises(UnknownIdError):
            await service.get(ACME, "sea", ["x"])
        with pytest.raises(DuplicateIdError, match="cannot be used"):
            await service.upsert(ACME, "sea", [NewDocument("mine", "x")])
        assert (await service.get(BETA, "sea", ["acme::x"]))[0].text == "secret"

    serving(work, folder)


def test_large_additions_become_jobs_that_only_their_owner_sees(folder):
    async def work(service):
        job = await service.add(
            ACME, "sea", [NewDocument(f"otter number {number}", f"n{number}") for number in range(70)]
        )
        for other in (BETA, ADMIN, READER):
            with pytest.raises(UnknownIndexError):
                service.job(other, job.id)
        for bad in ("", "../../etc/passwd", "0" * 32, "a/b"):
            with pytest.raises(UnknownIndexError):
                service.job(ACME, bad)
        while service.job(ACME, job.id).state in ("queued", "running"):
            await asyncio.sleep(0.01)
        done = service.job(ACME, job.id)
        assert (done.state, done.added, done.total) == ("done", 70, 70)
        assert "owner" not in done.to_dict()
        assert len(await service.get(ACME, "sea", [f"n{number}" for number in range(70)])) == 70
        failing = await service.add(ACME, "sea", [NewDocument("x", f"n{number}") for number in range(70)])
        while (state := service.job(ACME, failing.id)).state in ("queued", "running"):
            await asyncio.sleep(0.01)
        assert state.state == "failed"
        assert "n0" in state.error

    serving(work, folder, sync_documents=10)


def test_what_does_not_fit_is_named(folder):
    async def work(service):
        for call, error, message in (
            (lambda: service.search(ADMIN, "land", SEA), UnknownIndexError, "expected one of 'sea'"),
            (lambda: service.search(ADMIN, "sea", Query(" ")), EmptyInputError, "neither words nor a picture"),
            (lambda: service.search(ADMIN, "sea", SEA, 2000), SmartError, "at most 1000"),
            (lambda: service.search(ADMIN, "sea", SEA, 5, {"rerank": True}), SmartError, "no reranker"),
            (lambda: service.search(ADMIN, "sea", SEA, 5, {"feedback": float("nan")}), ScoringError, "finite"),
            (lambda: service.search(ADMIN, "sea", SEA, 5, {"deadline_ms": 0}), DeadlineError, "deadline"),
            (lambda: service.search(ADMIN, "sea", Query("x", b"GIF?")), SmartError, "a picture of the request"),
            (lambda: service.add(ADMIN, "sea", []), EmptyInputError, "found 0"),
            (lambda: service.add(ADMIN, "sea", [NewDocument("a", "x")] * 2), EmptyInputError, "twice"),
            (lambda: service.add(ADMIN, "sea", [NewDocument()]), EmptyInputError, "neither words"),
            (lambda: service.delete(ADMIN, "sea"), EmptyInputError, "neither or both"),
            (lambda: service.delete(ADMIN, "sea", where=" "), EmptyInputError, "neither or both"),
            (lambda: service.rerank(ADMIN, "sea", SEA), EmptyInputError, "neither or both"),
        ):  # fmt: skip
            with pytest.raises(error, match=message):
                await call()
        assert len((await service.select(ADMIN, "sea"))[0]) == 17

    serving(work, folder)


def test_a_server_that_only_reads(folder):
    async def work(service):
        assert len(await service.search(ADMIN, "sea", SEA, 3)) == 3
        assert not (await service.info(ADMIN, "sea")).writable
        for call in (service.add(ADMIN, "sea", [NewDocument("x")]), service.delete(ADMIN, "sea", ["d0"])):
            with pytest.raises(NotAllowedError, match="only reads"):
                await call

    serving(work, folder, read_only=True)


def test_reranking_gives_the_scores_of_the_search(folder):
    async def work(service):
        hits = await service.search(ADMIN, "sea", SEA, 17)
        ids = [hit.id for hit in hits][::-1]
        scores = await service.rerank(ADMIN, "sea", SEA, ids=[*ids, ids[0]])
        assert scores == pytest.approx([*[hit.score for hit in hits][::-1], hits[-1].score], abs=1e-6)
        texts = await service.rerank(ADMIN, "sea", SEA, texts=[hit.text for hit in hits])
        assert texts == pytest.approx([hit.score for hit in hits], abs=1e-5)

    serving(work, folder)


def test_encodings_are_the_models(folder, smart):
    async def work(service):
        query = await service.encode(READER, "sea", [SEA, Query("moon")])
        document = await service.encode(READER, "sea", [SEA], "document")
        alone = [smart("mean").encode_query(text).anchors[0].tolist() for text in (SEA.text, "moon")]
        assert query.anchors.tolist() == alone
        assert document.anchors == pytest.approx(smart("mean").encode_document([SEA.text]).anchors)

    serving(work, folder)


def test_pages_of_documents_that_are_not_read_from_files_stay_closed(folder, tmp_path):
    from fixtures.tiny_pdf import lines, tiny_pdf

    (tmp_path / "secret.pdf").write_bytes(tiny_pdf([lines("Secret", "otters")]))

    async def work(service):
        for number, source in enumerate(["secret.pdf", str(tmp_path / "secret.pdf"), "../secret.pdf"]):
            id = f"s{number}"
            await service.add(ADMIN, "sea", [NewDocument("secret otters", id, source=source, page=1)])
            page = (await service.explain_as(ADMIN, "sea", SEA, id, "html")).decode()
            assert "data:image" not in page
            assert str(tmp_path) not in page
            assert (await service.get(ADMIN, "sea", [id]))[0].source.endswith("secret.pdf")
            with pytest.raises(SmartError, match="no picture to draw"):
                await service.explain_as(ADMIN, "sea", SEA, id, "png")

    serving(work, folder)


def test_pages_of_indexed_files_are_drawn_without_the_machines_paths(tmp_path, smart):
    pytest.importorskip("PIL.Image")
    from fixtures.tiny_pdf import lines, tiny_pdf

    root = tmp_path / "papers"
    root.mkdir()
    (root / "otter.pdf").write_bytes(tiny_pdf([lines("Otters", "the otter swims in the sea")]))
    with SmartIndex.create(tmp_path / "papers.smart", smart("mean"), codec="float32") as index:
        index.index_folder(root)
        id = index.store.ids()[0]

    async def work(service):
        page = (await service.explain_as(ADMIN, "papers", SEA, id, "html")).decode()
        assert "data:image" in page
        assert (await service.explain_as(ADMIN, "papers", SEA, id, "png"))[:4] == b"\x89PNG"
        with pytest.raises(SmartError, match="indexed here"):
            await service.add(ACME, "papers", [NewDocument("mine", "x", source="otter.pdf", page=1)])
        (root / "otter.pdf").unlink()
        page = (await service.explain_as(ADMIN, "papers", SEA, id, "html")).decode()
        assert "cannot be shown" in page
        assert str(tmp_path) not in page

    serving(work, tmp_path / "papers.smart")


def test_a_full_queue_refuses_and_a_deadline_in_it_ends(folder):
    async def work(service):
        entered, go = threading.Event(), threading.Event()

        def block():
            entered.set()
            go.wait(10)

        blocked = asyncio.ensure_future(service._encoder.run(block))
        await asyncio.to_thread(entered.wait, 10)
        waiting = [asyncio.ensure_future(service.search(ADMIN, "sea", SEA, 3)) for _ in range(2)]
        late = asyncio.ensure_future(service.search(ADMIN, "sea", SEA, 3, {"deadline_ms": 20}))
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadedError, match="try again"):
            await service.search(ADMIN, "sea", SEA, 3)
        assert service.waiting["encoder"] == 4
        go.set()
        with pytest.raises(DeadlineError):
            await late
        assert len({tuple(flat(await one)) for one in waiting}) == 1
        await blocked
        assert service.waiting["encoder"] == 0

    serving(work, folder, waiting=3)


def test_a_search_cut_short_is_marked(folder, monkeypatch):
    from smart_retrieval.index.search import searcher

    monkeypatch.setattr(searcher, "_AT_ONCE", 1)
    monkeypatch.setattr(searcher, "_PRODUCTS_AT_ONCE", 0)
    original = SmartIndex.search

    def slow(self, *args, **kwargs):
        time.sleep(0.1)
        return original(self, *args, **{**kwargs, "deadline_ms": min(kwargs["deadline_ms"], 0.0)})

    monkeypatch.setattr(SmartIndex, "search", slow)
    hits = serving(lambda service: service.search(ADMIN, "sea", SEA, 17, {"deadline_ms": 5000}), folder)
    assert hits.partial
    assert 1 <= len(hits) < 17


def test_indexes_open_when_asked_for_and_close_when_idle(folder, tmp_path, smart):
    with SmartIndex.create(tmp_path / "land.smart", smart("mean"), codec="float32") as index:
        index.add(["people sleep"], ids=["p"])

    async def work(service):
        assert service.catalog.open_names == []
        found = await service.indexes(READER)
        assert [(info.name, info.documents, info.fields) for info in found] == [
            ("sea", 17, {"number": ["integer"], FIELD: ["array", "text"]}), ("land", 1, {}),
        ]  # fmt: skip
        await service.search(READER, "land", SEA, 1)
        await asyncio.to_thread(service.catalog.sweep)
        assert service.catalog.open_names == ["land"]
        await service.indexes(READER)
        await service.search(READER, "sea", SEA, 1)
        # Both were made with one model, which is loaded once.
        with service.catalog.use("sea") as sea, service.catalog.use("land") as land:
            assert sea.encoder.loaded is land.encoder.loaded
            assert sea.encoder.loaded is not None

    serving(work, folder, tmp_path / "land.smart", idle_s=0.0)


def test_an_index_that_is_put_in_the_place_of_another_is_served(folder, tmp_path, smart):
    async def work(service):
        assert len(await service.search(READER, "sea", SEA, 100)) == 17
        with SmartIndex.create(tmp_path / "new.smart", smart("mean"), codec="float32") as index:
            index.add(["moon"], ids=["m"])
        folder.rename(tmp_path / "old.smart")
        (tmp_path / "new.smart").rename(folder)
        assert [hit.id for hit in await service.search(READER, "sea", SEA, 100)] == ["m"]

    serving(work, folder)


def test_warming_up_says_what_is_missing(folder, tmp_path):
    async def work(service):
        assert service.warmup.unready
        await service.warmup.for_queries()
        assert service.warmup.unready is None

    serving(work, folder)

    async def fails(service):
        with pytest.raises(SmartError):
            await service.warmup.for_queries()
        assert str(tmp_path) not in service.warmup.unready
        assert "gone" in service.warmup.unready

    serving(fails, tmp_path / "gone.smart")


@pytest.mark.parametrize("there", [True, False])
def test_what_is_loaded_is_left_out_by_the_garbage_collector(folder, there):
    async def work(service):
        service.collector.pause()
        assert not gc.isenabled()
        if not there:
            shutil.rmtree(folder)
        await service.warmup.for_all()
        assert (service.warmup.unready is None) == there
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000

    try:
        serving(work, folder)
    finally:
        gc.unfreeze()
        gc.enable()


def test_pictures_are_decoded_in_a_child_and_searched_for(tmp_path, smart):
    pytest.importorskip("PIL.Image")
    from fixtures.pictures import picture, visual_model

    model = visual_model(tmp_path / "model")
    with SmartIndex.create(tmp_path / "art.smart", model, codec="float32") as index:
        index.add([picture(1), picture(2)], ids=["one", "two"])
        wanted = flat(index.search(picture(2), 2))
    file = BytesIO()
    picture(2).save(file, "PNG")

    async def work(service):
        hits = await service.search(READER, "art", Query(image=file.getvalue()), 2)
        assert flat(hits) == wanted
        (id,) = await service.add(ADMIN, "art", [NewDocument("a drawing", image=file.getvalue())])
        (stored,) = await service.get(ADMIN, "art", [id])
        assert stored.media is not None
        assert stored.source is None
        assert (await service.explain_as(ADMIN, "art", SEA, id, "png"))[:4] == b"\x89PNG"

    serving(work, tmp_path / "art.smart")

    async def refused(service):
        with pytest.raises(SmartError, match="more than 100 pixels"):
            await service.search(READER, "art", Query(image=file.getvalue()), 2)

    serving(refused, tmp_path / "art.smart", max_pixels=100)
