"""Two thousand damaged and hostile inputs: nothing is raised that is no named error (dev/fuzz.py runs more)."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent.parent / "dev" / "fuzz.py")
fuzz = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz)


@pytest.mark.parametrize("kind", list(fuzz.SHARES))
def test_every_exception_is_a_named_error(kind):
    if kind == "pdf":
        pytest.importorskip("pypdfium2")
    results, raw = fuzz.fuzz(20 * fuzz.SHARES[kind], kinds=[kind])
    assert raw == []
    found = results[kind]
    assert sum(found.values()) == 20 * fuzz.SHARES[kind]
    assert len(found) > 1 or kind == "embeddings", f"all the same: {found}"


def test_a_raw_exception_is_found(tmp_path, monkeypatch):
    def broken(folder):
        def run(rng):
            raise KeyError("raw")

        return run

    monkeypatch.setattr(fuzz, "filters", broken)
    results, raw = fuzz.fuzz(3, kinds=["where"])
    assert results["where"]["RAW"] == 3
    assert "KeyError" in raw[0]
