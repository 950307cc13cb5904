"""Collect the docstrings of the running Python's standard library.

Run in a process of its own (``python -I -S collect_docstrings.py``), and only with the standard library: other packages
patch it when they are imported (torch replaces ``inspect.getfile``, transformers adds methods to ``logging.Logger``).
Writes one JSON list of ``[name, title, text]``, ordered by name.
"""

from __future__ import annotations

import builtins
import collections
import dataclasses
import functools
import importlib
import inspect
import io
import json
import pkgutil
import re
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

#: Docstrings shorter than this say too little to be a document.
MIN_TEXT_CHARS = 20

#: How deep classes inside classes are followed.
MAX_NESTING = 3

# Importing these prints, opens a browser, touches the terminal or needs a display; or they are installers.
_AVOIDED = "antigravity ensurepip idlelib readline rlcompleter this tkinter turtle turtledemo"
# Other names for what `os`, `os.path`, `xml.parsers.expat` and `re` offer, pure data, Windows only.
_ALIASES = """genericpath nt ntpath nturl2path posix posixpath pyexpat sre_compile sre_constants sre_parse
    pydoc_data msvcrt winreg winsound"""
# Removed by Python 3.13: without them the collection is alike from one version to the next.
_REMOVED = """aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib
    nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib"""
_EXCLUDED = frozenset(f"{_AVOIDED} {_ALIASES} {_REMOVED}".split())
# `_socket.socket`, whose methods are listed as those of its subclass `socket.socket`.
_MASKED = frozenset({"socket.SocketType"})

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_CALL_ONLY = re.compile(r"\w+\(.*\)", re.DOTALL)
_GENERATED = re.compile(r"Alias for field number \d+")
_PLAIN_DEFAULTS = (type(None), bool, int, float, str, bytes)

# Some named tuples document their fields (`urllib.parse.SplitResult.netloc`).
_NamedTupleField = type(collections.namedtuple("_Pair", "first second").first)  # type: ignore[attr-defined]
_DESCRIPTORS = (types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType)
_MEMBER_TYPES: tuple[type, ...] = (
    *(types.FunctionType, types.BuiltinFunctionType, types.ClassMethodDescriptorType, types.DynamicClassAttribute),
    *(staticmethod, classmethod, property, functools.cached_property, _NamedTupleField, *_DESCRIPTORS),
)
_Rank = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One name under which a documented object can be reached; the lowest rank becomes its id."""

    rank: _Rank
    name: str
    target: object
    text: str
    is_member: bool


def _iter_modules() -> Iterator[tuple[str, types.ModuleType]]:
    """Import the public modules, packages before their submodules, in sorted order."""
    names = (name for name in sys.stdlib_module_names if not name.startswith("_"))
    pending = sorted(set(names) - _EXCLUDED, reverse=True)
    pending.append("os.path")  # not found by walking: `os` is no package
    while pending:
        name = pending.pop()
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit):  # a module may refuse this platform in any way
            continue
        yield name, module
        if name == "encodings":  # a hundred generated character maps with one and the same sentence
            continue
        children = {info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))}
        public = (c for c in children if not c.startswith("_") and c not in {"test", "tests"})
        pending.extend(sorted((f"{name}.{child}" for child in public), reverse=True))


def _clean(doc: object) -> str | None:
    if not isinstance(doc, str):
        return None
    text = _ADDRESS.sub("", inspect.cleandoc(doc)).strip()  # addresses differ from run to run
    return None if len(text) < MIN_TEXT_CHARS or _GENERATED.fullmatch(text) else text


def _own_doc(target: object) -> str | None:
    """The docstring written for this very object, not one inherited from its type or base."""
    if isinstance(target, types.GenericAlias) or str(getattr(target, "__name__", "")).startswith("__"):
        return None  # `dict[str, str]` has dict's text, `keyword.iskeyword` that of `__contains__`
    if isinstance(target, type):
        return _class_doc(target)
    doc = getattr(target, "__doc__", None)
    return None if doc == type(target).__doc__ else _clean(doc)


def _class_doc(cls: type) -> str | None:
    """The class's own text and its constructor's: many classes are documented only there."""
    text = _clean(vars(cls).get("__doc__"))
    # Dataclasses and named tuples generate "Name(field, ...)": a signature, not a text.
    if text and _CALL_ONLY.fullmatch(text) and (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")):
        text = None
    init = vars(cls).get("__init__")
    init_text = _clean(init.__doc__) if isinstance(init, types.FunctionType) else None
    return "\n\n".join(part for part in (text, init_text) if part) or None


def _exports(module: types.ModuleType, name: str) -> Iterator[tuple[str, object, bool]]:
    """The public names of a module: attribute, object, and whether it is certainly an export.

    Otherwise it is an undeclared helper, or a name that leaks through an import.
    """
    declared = set(getattr(module, "__all__", ()))
    for attribute in sorted(declared.union(vars(module))):
        if attribute.startswith("_") or f"{name}.{attribute}" in _MASKED:
            continue
        try:
            target = getattr(module, attribute)
        except Exception:  # a lazy or deprecated attribute may fail in any way
            continue
        if attribute.endswith("hook"):  # test runners replace `sys.excepthook` and the like; Python keeps them
            target = getattr(module, f"__{attribute}__", target)
        home = getattr(target, "__module__", None)
        home = home if isinstance(home, str) else ""
        patched = home and home.partition(".")[0] not in sys.stdlib_module_names
        if patched or isinstance(target, types.ModuleType):
            continue
        at_home = home == name or name == "os.path"
        certain = attribute in declared or home.startswith(f"{name}.") or (at_home and not declared)
        certain = certain or (name == "builtins" and home in {"io", "_io"})  # the home of `open`
        # C accelerators name a private module or none (`_hashlib` for `hashlib.scrypt`).
        hidden = not home or home.startswith("_") or "._" in home
        accelerated = home == f"_{name}" or (hidden and not declared)
        if certain or at_home or accelerated:
            yield attribute, target, certain


def _rank(module: str, attribute: str, target: object, certain: bool) -> _Rank:
    """Order the names of one object: certain ones, builtins, then the shallowest module."""
    own_name = getattr(target, "__name__", attribute)
    return (not certain, 0, module != "builtins", module.count("."), attribute != own_name, module, attribute)


def _identity(target: object) -> int:
    """A key shared by all the ways to reach one function."""
    if isinstance(target, staticmethod | classmethod | types.MethodType):
        return id(target.__func__)
    return id(target)


def _members(cls: type, name: str, rank: _Rank, public: frozenset[int], depth: int = 1) -> Iterator[_Candidate]:
    """The documented members of a class and of its private bases."""
    taken: set[str] = set()
    for distance, base in enumerate(cls.__mro__):
        own = {key: raw for key, raw in vars(base).items() if key not in taken}
        taken.update(own)
        if base is not cls and (id(base) in public or base is object):
            continue
        for attribute, raw in sorted(own.items()):
            nested = isinstance(raw, type) and raw.__qualname__ == f"{base.__qualname__}.{attribute}"
            if attribute.startswith("_") or not (nested or isinstance(raw, _MEMBER_TYPES)):
                continue
            text = _own_doc(raw)
            child, child_rank = f"{name}.{attribute}", (rank[0], depth + distance, *rank[2:], attribute)
            if text is not None:
                yield _Candidate(child_rank, child, raw, text, is_member=True)
            if isinstance(raw, type) and nested and depth < MAX_NESTING:
                yield from _members(raw, child, child_rank, public, depth + 1)


def _candidates() -> Iterator[_Candidate]:
    exported: list[tuple[str, object, _Rank]] = []
    modules = list(_iter_modules())
    for module_name, module in modules:
        for attribute, target, certain in _exports(module, module_name):
            prefix = "" if module_name == "builtins" else f"{module_name}."
            exported.append((f"{prefix}{attribute}", target, _rank(module_name, attribute, target, certain)))
    public = frozenset(id(t) for _, t, rank in exported if isinstance(t, type) and not rank[0])
    for name, target, rank in exported:
        text = _own_doc(target)
        if text is not None:
            yield _Candidate(rank, name, target, text, is_member=False)
        if isinstance(target, type):
            yield from _members(target, name, rank, public)
        elif isinstance(target, types.FunctionType):
            # `unittest.mock.patch.dict` and the like: functions used as namespaces.
            for attribute, helper in sorted(vars(target).items()):
                is_code = isinstance(helper, type | types.FunctionType) and "<locals>" not in helper.__qualname__
                text = _own_doc(helper) if is_code and not attribute.startswith("_") else None
                if text is not None:
                    helper_rank = (rank[0], 1, *rank[2:], attribute)
                    yield _Candidate(helper_rank, f"{name}.{attribute}", helper, text, is_member=True)
    for module_name, module in modules:
        text = _clean(module.__doc__)
        if text is not None:
            yield _Candidate((0,), module_name, module, text, is_member=False)


def _title(candidate: _Candidate) -> str:
    """The name and, where Python knows it, a signature without annotations."""
    target = candidate.target
    function = target.__func__ if isinstance(target, staticmethod | classmethod) else target
    if not callable(function):
        return candidate.name
    try:
        signature = inspect.signature(function)
    except Exception:  # many C functions have no signature, and a few classes compute a broken one
        return candidate.name
    parameters = list(signature.parameters.values())
    if candidate.is_member and parameters and parameters[0].name in {"self", "cls", "type"}:
        del parameters[0]
    shown = [
        # Only plain defaults print alike in every run; others may carry addresses or paths.
        p.replace(annotation=p.empty, default=p.default if type(p.default) in _PLAIN_DEFAULTS else ...)
        if p.default is not p.empty
        else p.replace(annotation=p.empty)
        for p in parameters
    ]
    return candidate.name + str(inspect.Signature(shown)).replace("=Ellipsis", "=...")


def collect() -> list[tuple[str, str, str]]:
    """Name, title and text of every documented public object, ordered by name, each object once."""
    by_object: dict[int, _Candidate] = {}
    muted = io.StringIO()
    with warnings.catch_warnings(action="ignore"), redirect_stdout(muted), redirect_stderr(muted):
        for candidate in _candidates():
            key = _identity(candidate.target)
            if key not in by_object or candidate.rank < by_object[key].rank:
                by_object[key] = candidate
        entries = _without_repeats(by_object.values())
        # Computing a signature may run code of the module, too.
        return [(candidate.name, _title(candidate), candidate.text) for candidate in entries]


def _without_repeats(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """One candidate for each text and name, ordered by name."""
    by_text: dict[tuple[str, str, str], _Candidate] = {}
    for candidate in sorted(candidates, key=_plainness):
        # `random.random` and `random.Random.random`, or `bytes.find` and `bytearray.find`: two objects, one
        # document. The same sentence in another module (`bz2`, `lzma`) documents something else.
        top = candidate.name.partition(".")[0]
        top = "builtins" if hasattr(builtins, top) else top
        by_text.setdefault((top, candidate.name.rpartition(".")[2], candidate.text), candidate)
    by_name: dict[str, _Candidate] = {}
    for candidate in sorted(by_text.values(), key=_plainness):
        by_name.setdefault(candidate.name, candidate)
    return [candidate for _, candidate in sorted(by_name.items())]


def _plainness(candidate: _Candidate) -> tuple[bool, int, int, str]:
    """Order objects before modules, then the shorter name first (`set.union`, not `frozenset.union`)."""
    is_module = isinstance(candidate.target, types.ModuleType)
    return (is_module, candidate.name.count("."), len(candidate.name), candidate.name)


if __name__ == "__main__":
    print(json.dumps(collect()))
