"""Jinja2 templates of the package's HTML pages, with everything escaped."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

# Control characters, and those with which a text reorders what stands around it.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _harmless(value: Any) -> Any:
    return _STEERING.sub("", value) if type(value) is str else value


def render(package: str, name: str, **values: object) -> str:
    """Render a template of a package's folder ``templates``; a value that it lacks is an error."""
    return _environment(package).get_template(name).render(**values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
