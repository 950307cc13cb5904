"""Marking functions as guarded, and calling them."""

from __future__ import annotations

import atexit
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

from ..errors import MissingExtraError
from ..extras import check
from ..files import UnreadableFileError, os_error
from .frames import Kind
from .process import CRASHED, ChildDiedError, ChildProcess, Limits

P = ParamSpec("P")
R = TypeVar("R")

# A child that served long (or has grown, see `Limits.idle`) is replaced: parsers keep memory, and fragment it.
_MOST_CALLS = 20_000
# A file whose every page kills the child, each after a minute, is given up after so many.
_MOST_DEATHS = 3

_on_step: Callable[[], None] | None = None  # in the child: tells the parent


def guarded(
    limits: Limits | None = None, needs: Mapping[str, str] | None = None, child: str = ""
) -> Callable[[Callable[Concatenate[Path, P], R]], Callable[Concatenate[Path, P], R]]:
    """Run a function in the guarded child.

    Args:
        limits: What one call may take; those of `Limits()` when None.
        needs: Modules it imports and the extras that install them, to be missed before the child is.
        child: Name of a child of its own, for functions that keep something large there (a model).

    Raises:
        UnreadableFileError: By the marked function: what it raises itself, in the child, or that the file killed it. Of
            other errors the kind and message are kept as the detail.
        MissingExtraError: By the marked function.
    """
    allowed = limits or Limits()
    guard = _GUARDS.setdefault(child, _Guard())

    def mark(function: Callable[Concatenate[Path, P], R]) -> Callable[Concatenate[Path, P], R]:
        @wraps(function)
        def call(path: Path, *args: P.args, **kwargs: P.kwargs) -> R:
            if _on_step is not None:
                return function(path, *args, **kwargs)
            for module, extra in (needs or {}).items():
                check(module, extra)
            found: R = guard.call(function, allowed, path, args, kwargs)
            return found

        call.guarded_limits = allowed  # type: ignore[attr-defined]
        return cast("Callable[Concatenate[Path, P], R]", call)

    return mark


def step() -> None:
    """Say that a part of the work is done, in a guarded function: the call may take so much longer."""
    if _on_step is not None:
        _on_step()


def stop() -> None:
    """End all children and what they keep open; the next call starts another."""
    for guard in list(_GUARDS.values()):
        guard.stop()


def interrupt(thread: int | None) -> None:
    """End the call that a thread is in, whose answer nobody wants any more; it raises there."""
    for guard in list(_GUARDS.values()):
        guard.interrupt(thread)


def limits_of(function: Any) -> Limits:
    """The limits a function was marked with; nothing else may be called in the child."""
    limits: Limits = function.guarded_limits
    return limits


def run_here(on_step: Callable[[], None]) -> None:
    """From now on, marked functions run in this process, which is the child."""
    global _on_step
    _on_step = on_step


class _Guard:
    """A child of this process."""

    def __init__(self) -> None:
        self._child: ChildProcess | None = None
        self.forget()

    def forget(self) -> None:
        """Start afresh, in a process just forked: the child is the parent's, and a lock may be held for ever."""
        if self._child is not None:
            self._child.abandon()
        self._lock = threading.Lock()
        self._child = None
        self._caller: int | None = None  # the thread whose call is running
        self._calls = 0
        self._deaths: Counter[tuple[bytes, int, int]] = Counter()

    def stop(self) -> None:
        with self._lock:
            self._close()

    def interrupt(self, thread: int | None) -> None:
        child = self._child
        if child is not None and self._caller == thread:
            child.end()

    def call(self, function: Callable[..., Any], limits: Limits, path: Path, args: Any, kwargs: Any) -> Any:
        import msgspec

        try:
            name = os.fsencode(Path(path).absolute())
        except OSError as error:  # the working directory is gone
            raise os_error(path, error) from error
        except ValueError as error:
            raise UnreadableFileError(path, "not the name of a file", str(error)) from error
        data = msgspec.msgpack.encode([function.__module__, function.__name__, name, args, kwargs])
        with self._lock:
            self._caller = threading.get_ident()
            try:
                kind, answer = self._ask(data, limits, path, name)
            finally:
                self._caller = None
        try:
            if kind == Kind.RESULT:
                return msgspec.msgpack.decode(answer, type=_result_of(function))
            if kind == Kind.MISSING_EXTRA:
                raise MissingExtraError(msgspec.msgpack.decode(answer, type=str))
            reason, detail = msgspec.msgpack.decode(answer, type=tuple[str, str])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise UnreadableFileError(path, CRASHED, f"its answer is not what was asked for: {error}") from error
        raise UnreadableFileError(path, reason, detail)

    def _ask(self, data: bytes, limits: Limits, path: Path, name: bytes) -> tuple[Kind, bytearray]:
        stamp = (name, *_stamp(name))
        if self._deaths[stamp] >= _MOST_DEATHS:
            raise UnreadableFileError(path, CRASHED, f"{_MOST_DEATHS} times; it is not tried again")
        try:
            if self._child is None or not self._child.alive:
                self._close()
                self._child, self._calls = ChildProcess(), 0
            answer = self._child.call(data, limits)
        except ChildDiedError as error:
            if self._child is not None:
                self._deaths[stamp] += 1
            raise UnreadableFileError(path, error.reason, error.detail) from error
        finally:
            self._calls += 1
            if self._child is not None and not self._worth_keeping(self._child, limits.idle):
                self._close()
        return answer

    def _worth_keeping(self, child: ChildProcess, idle: int) -> bool:
        return child.alive and self._calls < _MOST_CALLS and child.memory <= idle

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


@cache
def _result_of(function: Callable[..., Any]) -> Any:
    return get_type_hints(function)["return"]


def _stamp(name: bytes) -> tuple[int, int]:
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _forget() -> None:
    for guard in _GUARDS.values():
        guard.forget()


_GUARD = _Guard()
_GUARDS = {"": _GUARD}  # by name
atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
