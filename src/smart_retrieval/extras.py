"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module; the error names the extra of this package that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, extra) from error


def check(module: str, extra: str) -> None:
    """Raise the error of `require` if a top-level module is not installed, without importing it."""
    if importlib.util.find_spec(module) is None:
        raise _missing(module, extra)


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f'found no module {module!r}, which this needs: run  pip install "smart-retrieval[{extra}]"'
    )
