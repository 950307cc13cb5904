"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Args:
        module: The module's import name, ``"pytrec_eval"`` for one.
        extra: The extra of this package that installs it, as named in ``pyproject.toml``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The module is not installed; the message holds the ``pip install`` line.

    Example:
        >>> require("json", "eval").__name__
        'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'found no module {module!r}, which this needs: run  pip install "smart-retrieval[{extra}]"'
        ) from error
