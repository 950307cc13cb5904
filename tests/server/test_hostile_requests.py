"""A thousand requests that nobody should send: no 500, no path of the machine, no document of another tenant."""

from __future__ import annotations

import re

import pytest
from fixtures.callers import FIELD
from fixtures.hostile_requests import SECRET, hostile_requests
from starlette.testclient import TestClient

from smart_retrieval.index.smart_index import SmartIndex
from smart_retrieval.server import ServerSettings, create_app

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("seed", range(4))
def test_hostile_requests_get_nothing(folder, tmp_path, seed):
    with SmartIndex.open(folder) as index:
        ids = [f"d{number}" for number in range(1, 16, 2)]
        index.upsert(
            [f"otter {SECRET} {id}" for id in ids], ids=ids, metadata=[{FIELD: "beta", "number": 1}] * len(ids)
        )
        before = index.get(ids)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} write acme\n")
    tokens.chmod(0o600)
    settings = ServerSettings(
        token_file=tokens, tenant_field=FIELD, max_body=50_000, max_queries=20, deadline_ms=20_000
    )
    leaks = re.compile("|".join(map(re.escape, (SECRET, str(tmp_path), "root:x:", "Traceback", "site-packages"))))
    statuses = set()
    with TestClient(
        create_app([folder], settings), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        for asked in hostile_requests(250, seed):
            headers = {"Authorization": f"Bearer {TOKEN}", **asked.headers}
            answer = client.request(asked.method, asked.path, content=asked.body, headers=headers)
            statuses.add(answer.status_code)
            assert answer.status_code < 500 or answer.status_code in (503, 504), (asked, answer.text)
            assert not leaks.search(answer.text), (asked, leaks.search(answer.text))
            assert not leaks.search(str(answer.headers)), asked
        assert client.get("/readyz").status_code == 200
    assert {200, 400, 404, 422} <= statuses
    with SmartIndex.open(folder) as index:
        assert [(one.text, one.metadata) for one in index.get(ids)] == [(one.text, one.metadata) for one in before]
