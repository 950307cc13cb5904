"""Public names of a package, imported on first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]], others: Sequence[str] = ()
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__all__``, ``__getattr__`` and ``__dir__`` of a package that imports its public names on first use.

    Args:
        package: Name of the package.
        names: The public names by the module that defines them, relative to the package.
        others: Public names that the package itself imports or defines.
    """
    homes = {name: module for module, defined in names.items() for name in defined}
    public = [*others, *homes]

    def find(name: str) -> Any:
        if name in homes:
            return getattr(import_module(f"{package}.{homes[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return public, find, lambda: sorted(public)
