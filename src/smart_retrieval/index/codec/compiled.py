"""When the compiled kernels are loaded: behind the first searches, which do not wait for them.

Loading Numba and its cached code takes longer (0.5 to 1 s; compiling them once, several) than a few searches with the
NumPy reference, which gives the same bits. So a process that searches once never loads it, and one that goes on gets it
from a thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
import warnings
from types import ModuleType

import numpy as np

from ...errors import SmartWarning
from ...types import Array

# Products of query tokens with document tokens done in NumPy first; about a quarter of a second.
PATIENCE = 4_000_000

_lock = threading.Lock()
_done = 0
_thread: threading.Thread | None = None
_kernels: ModuleType | None = None


def compiled_kernels() -> ModuleType | None:
    """The Numba kernels, or None where they are not loaded (yet)."""
    return _kernels


def count(products: int) -> None:
    """Note work that was done without them; beyond :data:`PATIENCE` they are loaded in the background."""
    global _done, _thread
    if _kernels is not None or _thread is not None:
        return
    with _lock:
        _done += products
        if _done > PATIENCE and _thread is None:
            _thread = threading.Thread(target=_load_behind, name="smart-kernels")
            _thread.start()


def _load_behind() -> None:
    try:
        load_kernels()
    except Exception as error:  # a broken installation must not cost the searches, which go on without
        warnings.warn(f"Numba cannot be used, searches go on in NumPy: {error}", SmartWarning, stacklevel=1)


def load_kernels() -> ModuleType | None:
    """Load them now; None where Numba is not installed."""
    global _kernels
    if _kernels is None and importlib.util.find_spec("numba") is not None:
        kernels = importlib.import_module(".kernels_numba", __package__)
        _compile(kernels)
        _kernels = kernels
    return _kernels


def _compile(kernels: ModuleType) -> None:
    """Call every kernel with the types that it will be called with: each compiles, or loads, when first called."""

    def frozen(shape: tuple[int, ...], kind: type) -> Array:
        array: Array = np.zeros(shape, kind)
        array.flags.writeable = False
        return array

    numbers, codes, floats = frozen((0,), np.int64), frozen((1, 4), np.uint8), frozen((1, 8), np.float32)
    best = np.zeros((0, 8), np.float32)
    kernels.best_from_tables(
        codes, numbers, numbers, frozen((1, 256, 8), np.float32), floats, frozen((1,), np.int32),
        frozen((256,), np.float32), floats, best,
    )  # fmt: skip
    kernels.mark_used(codes, numbers, numbers, np.zeros(1, np.bool_))
    kernels.gather_halves(frozen((1, 8), np.uint16), numbers, np.zeros((0, 8), np.uint32))
    kernels.segment_best(floats, numbers, numbers, best)
    kernels.widen(frozen((0, 8), np.int8), best)
