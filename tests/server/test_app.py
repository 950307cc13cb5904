from __future__ import annotations

import base64
import json
import re
import struct
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from fixtures.callers import FIELD
from fixtures.tiny_models import TEXTS
from starlette.testclient import TestClient

from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings, create_app
from smart_retrieval.server.http.answers import line_of

SEA = "/v1/indexes/sea"
TOKENS = {"admin": "a" * 20, "reader": "r" * 20, "acme": "c" * 20, "beta": "b" * 20}


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens"
    lines = ["# who may ask", "", f"{TOKENS['admin']} write", f"{TOKENS['reader']} read"]
    lines += [f"{TOKENS[name]} write {name}" for name in ("acme", "beta")]
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


@pytest.fixture
def client(folder):
    """Of a server without tokens."""
    with TestClient(create_app([folder]), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def guarded(folder, token_file):
    """Of a server with tokens and tenants."""
    app = create_app([folder], ServerSettings(token_file=token_file, tenant_field=FIELD, max_body=20_000))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def bearer(name):
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def ready(client):
    import time

    for _ in range(600):
        if client.get("/readyz").status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError(client.get("/readyz").text)


def test_a_search_over_http_is_that_of_the_index(client, folder):
    with SmartIndex.open(folder) as index:
        wanted = index.search("the otter swims", 4, lexical_weight=3.0, where="number < 12")
    asked = {"query": "the otter swims", "k": 4, "lexical_weight": 3, "where": "number < 12"}
    found = client.post(f"{SEA}/search", json=asked).json()
    assert found["hits"] == [hit.to_dict() for hit in wanted]
    assert (found["searched"], found["candidates"], found["partial"]) == (wanted.searched, wanted.candidates, False)
    as_object = client.post(f"{SEA}/search", json={**asked, "query": {"text": "the otter swims"}}).json()
    assert as_object == found


def test_several_queries_and_lines(client):
    asked = {"queries": TEXTS[:6], "k": 3}
    many = client.post(f"{SEA}/search", json=asked).json()["results"]
    assert many == [client.post(f"{SEA}/search", json={"query": text, "k": 3}).json() for text in TEXTS[:6]]
    lines = client.post(f"{SEA}/search", json=asked, headers={"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in lines.text.splitlines()] == many
    lines = client.post(f"{SEA}/search", json={"query": TEXTS[0], "k": 3}, headers={"Accept": "application/x-ndjson"})
    *hits, last = [json.loads(line) for line in lines.text.splitlines()]
    assert hits == many[0]["hits"]
    assert last == {"candidates": 17, "searched": 17, "partial": False}
    failing = {"queries": ["a", " "], "k": 1}
    lines = client.post(f"{SEA}/search", json=failing, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert json.loads(lines[1])["error"]["type"] == "EmptyInputError"


def test_kinds(client):
    asked = {"query": "the otter swims", "k": 20, "where": "number < 9"}
    everything = client.post(f"{SEA}/search", json=asked).json()
    assert client.post(f"{SEA}/search", json={**asked, "kinds": ["image", "text"]}).json() == everything
    none = client.post(f"{SEA}/search", json={**asked, "kinds": ["page"], "lexical_weight": 3}).json()
    assert (none["hits"], none["searched"]) == ([], 0)
    assert client.post(f"{SEA}/search", json={**asked, "kinds": ["cat"]}).status_code == 422
    wrong = client.post(f"{SEA}/search", json={**asked, "kinds": ["text"], "where": "number <"})
    assert wrong.json()["error"]["type"] == "FilterError"


def test_groups(client):
    documents = [{"text": text, "source": f"file{number % 3}", "page": 1} for number, text in enumerate(TEXTS)]
    assert client.post(f"{SEA}/documents", json={"documents": documents}).status_code == 200
    found = client.post(
        f"{SEA}/search", json={"query": "moon", "k": 2, "group_by": "source", "where": "source like 'f%'"}
    )
    groups = found.json()["groups"]
    assert len(groups) == 2
    assert all(hit["source"] == group["source"] for group in groups for hit in group["hits"])


def test_explanations_are_numbers_and_pages(client):
    asked = {"query": "the otter swims", "id": "d0"}
    found = client.post(f"{SEA}/explain", json=asked).json()
    assert sum(token["contribution"] for token in found["tokens"]) == pytest.approx(found["late"])
    page = client.post(f"{SEA}/explain", json={**asked, "format": "html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in page.headers["content-security-policy"]
    assert client.post(f"{SEA}/explain", json={**asked, "format": "png"}).status_code == 400
    assert client.post(f"{SEA}/explain", json={**asked, "id": "nothing"}).status_code == 404


def test_documents_come_and_go(client):
    added = client.post(
        f"{SEA}/documents", json={"documents": [{"text": "moon", "id": "a/b c#1", "metadata": {"x": 1}}]}
    )
    assert added.json() == {"ids": ["a/b c#1"]}
    path = f"{SEA}/documents/a%2Fb%20c%231"
    assert client.get(path).json()["metadata"] == {"x": 1}
    again = client.post(f"{SEA}/documents", json={"documents": [{"text": "moon", "id": "a/b c#1"}]})
    assert (again.status_code, again.json()["error"]["type"]) == (409, "DuplicateIdError")
    assert client.put(f"{SEA}/documents", json={"documents": [{"text": "sun", "id": "a/b c#1"}]}).status_code == 200
    assert client.post(f"{SEA}/documents/get", json={"ids": ["a/b c#1"]}).json()["documents"][0]["text"] == "sun"
    assert client.delete(path).json() == {"deleted": 1}
    assert client.get(path).status_code == 404
    assert client.post(f"{SEA}/documents/delete", json={"where": "number < 4"}).json() == {"deleted": 4}
    assert client.post(f"{SEA}/documents/delete", json={"ids": ["d4", "d0"]}).status_code == 404
    assert client.post(f"{SEA}/documents/delete", json={}).status_code == 400
    seen, after = [], ""
    while after is not None:
        page = client.get(f"{SEA}/documents", params={"limit": 5, "after": after, "where": "number exists"}).json()
        seen += [document["id"] for document in page["documents"]]
        after = page["next"]
    assert seen == sorted(f"d{number}" for number in range(4, 17))


def test_a_large_addition_is_a_job(folder):
    import time

    app = create_app([folder], ServerSettings(sync_documents=3))
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post(f"{SEA}/documents", json={"documents": [{"text": f"otter {n}"} for n in range(9)]})
        assert answer.status_code == 202
        for _ in range(600):
            state = client.get(answer.headers["location"]).json()
            if state["state"] == "done":
                break
            time.sleep(0.05)
        assert (state["state"], state["added"]) == ("done", 9)
        assert client.get("/v1/jobs/nothing").status_code == 404


def test_encodings_as_numbers_and_as_bytes(client, smart):
    asked = {"inputs": ["moon", {"text": "the sun"}], "side": "query"}
    floats = client.post(f"{SEA}/encode", json=asked).json()
    packed = client.post(f"{SEA}/encode", json={**asked, "encoding_format": "base64"}).json()
    wanted = smart("mean").encode_query("the sun")
    one = floats["data"][1]
    assert one["anchor"] == pytest.approx(wanted.anchors[0].tolist(), abs=1e-6)
    assert one["shape"] == list(wanted.token_vectors.shape)
    assert one["token_ids"] == wanted.token_ids.tolist()
    raw = base64.b64decode(packed["data"][1]["tokens"])
    flat = [number for row in one["tokens"] for number in row]
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(flat)
    assert "tokens" not in client.post(f"{SEA}/encode", json={**asked, "tokens": False}).json()["data"][0]


def test_openais_embeddings_are_the_anchors(client, smart):
    wanted = smart("mean").encode_document(["moon", "sun"]).anchors
    found = client.post("/v1/embeddings", json={"model": "sea", "input": ["moon", "sun"]}).json()
    assert found["object"] == "list"
    assert [one["index"] for one in found["data"]] == [0, 1]
    assert np.array([one["embedding"] for one in found["data"]]) == pytest.approx(wanted, abs=1e-6)
    packed = client.post("/v1/embeddings", json={"input": "moon", "encoding_format": "base64"}).json()["data"]
    assert struct.unpack("<32f", base64.b64decode(packed[0]["embedding"])) == pytest.approx(wanted[0], abs=1e-6)
    assert client.post("/v1/embeddings", json={"input": "moon", "dimensions": 7}).status_code == 400


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_reranking_has_the_shape_of_coheres_and_jinas(client, path):
    asked = {
        "model": "x",
        "query": "moon",
        "documents": ["sun", {"text": "moon"}, "sea"],
        "top_n": 2,
        "return_documents": True,
    }
    found = client.post(path, json=asked).json()["results"]
    assert len(found) == 2
    assert (found[0]["index"], found[0]["document"]) == (1, {"text": "moon"})
    assert found[0]["relevance_score"] >= found[1]["relevance_score"]
    by_id = client.post(path, json={"query": "moon", "ids": ["d0", "d10"]}).json()["results"]
    assert by_id[0]["id"] == "d10"
    assert client.post(path, json={"query": "moon"}).status_code == 400


def test_what_is_served_and_how_it_is(client):
    ready(client)
    listed = client.get("/v1/indexes").json()["indexes"]
    assert [(one["name"], one["documents"], one["writable"]) for one in listed] == [("sea", 17, True)]
    assert client.get(SEA).json() == listed[0]
    assert client.get("/healthz").json()["status"] == "ok"
    client.post(f"{SEA}/search", json={"query": "moon"})
    text = client.get("/metrics").text
    assert re.search(
        r'smart_requests_total\{method="POST",route="/v1/indexes/\{index\}/search",status="200"\} \d', text
    )
    assert 'smart_waiting{threads="encoder"} 0.0' in text
    client.get("/no/such/path")
    assert "no/such" not in client.get("/metrics").text


def test_the_page_of_the_api_describes_every_operation_and_loads_nothing(client):
    page = unescape(client.get("/docs").text)
    described = client.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["summary"] in page, path
            assert operation["description"], path
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script" not in page


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("POST", "/search", None, 401),
        ("POST", "/search", "reader", 200),
        ("POST", "/documents", "reader", 403),
        ("POST", "/documents", "acme", 200),
        ("GET", "", "acme", 200),
        ("GET", "/documents/d1", "acme", 404),
        ("GET", "/documents/d1", "beta", 200),
        ("DELETE", "/documents/d1", "acme", 404),
        ("DELETE", "/documents/d16", "acme", 403),
        ("DELETE", "/documents/d1", "reader", 403),
    ],
)
def test_tokens_have_roles_and_tenants(guarded, method, path, name, status):
    bodies = {"/search": {"query": "moon"}, "/documents": {"documents": [{"text": "moon"}]}}
    given = {"json": bodies[path]} if path in bodies else {}
    answer = guarded.request(method, SEA + path, headers=bearer(name) if name else {}, **given)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_but_health_asks_for_a_token(guarded):
    described = create_paths(guarded)
    assert len(described) > 12
    for path, methods in described.items():
        for method in methods:
            url = path.replace("{index}", "sea").replace("{id}", "d0")
            answer = guarded.request(method.upper(), url, headers={"Authorization": "Bearer wrong"}, json={})
            assert answer.status_code == (401 if path not in ("/healthz", "/readyz") else answer.status_code), path


def create_paths(client):
    return client.get("/openapi.json").json()["paths"]


def test_a_page_may_keep_the_token_in_a_cookie(guarded):
    guarded.cookies.set("smart_token", TOKENS["acme"])
    assert guarded.get(SEA).json()["documents"] == 9
    assert guarded.get("/metrics").status_code == 403


def test_other_hosts_and_origins_are_refused(folder, client):
    for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1@evil", "[::1", "localhost, evil"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 421
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        assert client.post(f"{SEA}/search", json={"query": "a"}, headers={"Origin": origin}).status_code == 403
    assert client.get("/healthz", headers={"Origin": "http://localhost"}).status_code == 200
    app = create_app([folder], ServerSettings(allowed_hosts=("a.example",), allowed_origins=("https://b.example",)))
    with TestClient(app, base_url="http://a.example") as other:
        answer = other.get("/healthz", headers={"Origin": "https://b.example"})
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
    app = create_app([folder], ServerSettings(allowed_hosts=("*",)))
    with TestClient(app, base_url="http://whatever.example") as other:
        assert other.get("/healthz").status_code == 200


def test_bodies_have_a_limit_whether_they_say_their_length_or_not(guarded):
    asked = {"query": "x" * 30_000}
    assert guarded.post(f"{SEA}/search", json=asked, headers=bearer("admin")).status_code == 413

    def chunks():
        for _ in range(300):
            yield b" " * 100

    answer = guarded.post(
        f"{SEA}/search", content=chunks(), headers={**bearer("admin"), "Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    for length in ("-1", "abc", "1e9"):
        refused = guarded.post(f"{SEA}/search", content=b"{}", headers={**bearer("admin"), "Content-Length": length})
        assert refused.status_code == 400
    assert guarded.post(f"{SEA}/search", json={"query": "x"}, headers=bearer("admin")).status_code == 200


def test_answers_have_headers_that_keep_pages_apart(client):
    for path in ("/healthz", "/docs", "/nothing", "/v1/indexes"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in client.get("/docs").headers["content-security-policy"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"query": 3}', b'{"query": "x", "k": 1e9}', b'{"query": "x", "k": -1}',
        b'{"query": "x", "where": 3}', b'{"query": "x", "nothing": 1}', b'{"query": "x", "deadline_ms": NaN}',
        b'{"query": "x", "feedback": Infinity}', b'{"query": {"image": "/etc/passwd"}}', b"\xff\xfe",
        b'{"query": {"image": "AAAA"}}', b'{"query": {"image": "http://127.0.0.1/x.png"}}', b'{"query": {"image": "file:///etc/passwd"}}',
        b'{"query": {"image": "data:image/svg+xml;base64,PHN2Zy8+"}}', b'{"query": "x", "lambda_late": "x"}',
        b'{"queries": []}', b'{"query": "x", "queries": ["x"]}', b"[" * 100_000, b'{"query": "x", "floor": 7}',
    ],
)  # fmt: skip
def test_requests_that_are_none_are_named_and_nothing_else(client, body):
    answer = client.post(f"{SEA}/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert "/etc" not in error["message"]


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\u0000b"', '"\\u202e"', '"' + "a" * 5000 + '"'])
def test_odd_text_is_searched_for(client, text):
    answer = client.post(
        f"{SEA}/search", content=b'{"query": %s}' % text.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400, 422)
    echoed = b'{"query": "x", "documents": [%s], "return_documents": true}' % text.encode()
    answer = client.post("/v1/rerank", content=echoed, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 422)


def test_a_search_waits_for_no_thread_but_the_service_s_own(client, monkeypatch):
    async def refused(*args, **kwargs):
        raise AssertionError("a dependency went through the pool of threads")

    ready(client)
    monkeypatch.setattr("fastapi.dependencies.utils.run_in_threadpool", refused)
    assert client.post(f"{SEA}/search", json={"query": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"a": "é\u2028", "b": (1.5, None)}, '{"a":"é\u2028","b":[1.5,null]}'),
        ({"a": "\ud800", "b": 1}, '{"a":"?","b":1}'),
        ({"a": 2**70, "b": 0.1 + 0.2}, '{"a":1180591620717411303424,"b":0.30000000000000004}'),
    ],
)
def test_an_answer_is_json_whatever_it_holds(content, line):
    assert line_of(content).decode() == line


def test_an_unexpected_error_says_nothing_of_the_machine(client, monkeypatch, caplog):
    def broken(self, *args, **kwargs):
        raise RuntimeError("at /home/someone/secret.py")

    monkeypatch.setattr(SmartIndex, "search", broken)
    answer = client.post(f"{SEA}/search", json={"query": "x"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_an_index_that_is_gone_is_named_without_its_path(client, folder, tmp_path):
    ready(client)
    folder.rename(tmp_path / "elsewhere")
    answer = client.post(f"{SEA}/search", json={"query": "x"})
    assert answer.status_code == 500
    assert "sea" in answer.text
    assert str(tmp_path) not in answer.text
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_picture_as_a_form(tmp_path, smart):
    pytest.importorskip("PIL.Image")
    from fixtures.pictures import picture, visual_model

    model = visual_model(tmp_path / "model")
    with SmartIndex.create(tmp_path / "art.smart", model, codec="float32") as index:
        index.add([picture(1), picture(2)], ids=["one", "two"])
        found = index.search({"text": "red", "image": picture(2)}, 2)
        wanted = [hit.to_dict(thumbnails=True) for hit in found]
    file = BytesIO()
    picture(2).save(file, "PNG")
    with TestClient(create_app([tmp_path / "art.smart"]), base_url="http://localhost") as client:
        form = {"request": json.dumps({"query": "red", "k": 2, "thumbnails": True})}
        answer = client.post(
            "/v1/indexes/art/search/picture", data=form, files={"image": ("../../x.png", file.getvalue(), "image/png")}
        )
        assert answer.json()["hits"] == wanted
        query = {"text": "red", "image": base64.b64encode(file.getvalue()).decode()}
        same = client.post("/v1/indexes/art/search", json={"query": query, "k": 2, "thumbnails": True})
        assert same.json() == answer.json()
        for bad in ({"request": "["}, {"request": '{"queries": ["x"]}'}, {"request": '{"query": {"image": "AAAA"}}'}):
            refused = client.post("/v1/indexes/art/search/picture", data=bad, files={"image": ("x", b"1")})
            assert refused.status_code == 400
        assert client.post("/v1/indexes/art/search/picture", data={"image": "x"}).status_code == 400


def test_the_access_log_names_callers_and_tenants_but_no_token(folder, token_file, caplog):
    settings = ServerSettings(token_file=token_file, tenant_field=FIELD, access_log=True)
    with (
        caplog.at_level("INFO", logger="smart_retrieval.access"),
        TestClient(create_app([folder], settings), base_url="http://localhost") as client,
    ):
        client.get(SEA, headers=bearer("acme"))
        client.get(SEA, headers=bearer("reader"))
        client.get(SEA, headers={"Authorization": "Bearer wrongwrongwrongwrong"})
    lines = [json.loads(one.getMessage()) for one in caplog.records if one.name == "smart_retrieval.access"]
    assert [(one["status"], one["tenant"]) for one in lines] == [(200, "acme"), (200, None), (401, None)]
    assert len({one["caller"] for one in lines}) == 3
    assert not any(token in caplog.text for token in (*TOKENS.values(), "wrongwrong"))
