"""Shards and a front without Ray: handles that call replicas in this process."""

import sys
from types import ModuleType

import numpy as np
import pytest

from smart_retrieval import SmartIndex, split_index
from smart_retrieval.cluster.serving.front import Front
from smart_retrieval.cluster.serving.shard import ShardReplica
from smart_retrieval.server.settings import ServerSettings

WORDS = ["logs", "oak", "rotate", "night", "burn", "slow", "file", "tree", "wood", "disk", "error", "cloud", "rain"]


class DiedError(Exception):
    """In place of Ray's error of a replica that has died."""


class Handle:
    """A deployment's handle; ``before`` is awaited before each search."""

    def __init__(self, path):
        self.replica, self.before, self.asked = ShardReplica(str(path)), None, 0

    @property
    def search(self):
        return _Method(self, "search")

    @property
    def facts(self):
        return _Method(self, "facts")


class _Method:
    def __init__(self, handle, name):
        self.handle, self.name = handle, name

    async def remote(self, *arguments):
        if self.name == "search":
            self.handle.asked += 1
            if self.handle.before is not None:
                await self.handle.before(self.handle)
        return await getattr(self.handle.replica, self.name)(*arguments)


@pytest.fixture(autouse=True)
def ray_without_ray(monkeypatch):
    module = ModuleType("ray.exceptions")
    module.RayActorError = DiedError
    monkeypatch.setitem(sys.modules, "ray.exceptions", module)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, smart):
    """An index of 120 texts, every other of tenant a and b."""
    rng = np.random.default_rng(0)
    with SmartIndex.create(
        tmp_path_factory.mktemp("served") / "a.smart", smart("mean", preset="default"), codec="float16"
    ) as index:
        texts = [" ".join(rng.choice(WORDS, rng.integers(2, 5))) for _ in range(120)]
        metadata = [{"team": "ab"[i % 2], "year": 2000 + i % 7} for i in range(120)]
        index.add(texts, ids=[f"d{i:03d}" for i in range(120)], metadata=metadata)
        yield index


@pytest.fixture
def fronts(tmp_path, whole, tiny):
    """``fronts(shards, **settings)``: a front over shards of that index, in a folder that may be changed."""
    opened = []

    def make(shards=3, **settings):
        split_index(whole, tmp_path / "docs.shards", shards)
        places = sorted((tmp_path / "docs.shards").glob("shard-*"))
        handles = [Handle(place) for place in places]
        given = ServerSettings(**{"deadline_ms": 5000.0, "allowed_hosts": ("test",), **settings})
        front = Front("docs", str(places[0]), str(tiny("mean")), given, *handles)
        opened.append((front, handles))
        return front, handles

    yield make
    for front, handles in opened:
        front.close()
        for handle in handles:
            handle.replica.close()
