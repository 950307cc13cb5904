"""Jinja2 templates of the package's HTML pages, with everything escaped."""

from __future__ import annotations


def render(package: str, name: str, **values: object) -> str:
    """Render a template of a package's folder ``templates``; a value that it lacks is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(**values)
