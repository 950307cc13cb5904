"""Sphinx settings of the documentation: ``make docs`` writes it to docs/_build/html, without a network."""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

from docutils.nodes import literal

import smart_retrieval

project = "smart-retrieval"
author = "the smart-retrieval contributors"
copyright = "the smart-retrieval contributors, Apache-2.0"
version = release = smart_retrieval.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"smart-retrieval {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "literal"  # `name` in a docstring is code
nitpicky = True
maximum_signature_line_length = 160
# Names of types that are shown as they are written, not as what they stand for.
autodoc_type_aliases = {name: name for name in ("Array", "OneQuery", "QueryWeights", "TokenWeights")}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True

#: Modules whose names are documented; see docs/api.
PUBLIC = (
    *("", ".documents", ".pictures", ".server", ".stores", ".training", ".errors"),
    *(".evaluation", ".evaluation.probe", ".evaluation.tune"),
)


@cache
def public_names() -> dict[str, str]:
    """``module.name`` as the code defines it -> the name it is documented under."""
    found: dict[str, str] = {}
    for suffix in PUBLIC:
        package = importlib.import_module(f"smart_retrieval{suffix}")
        for name in getattr(package, "__all__", vars(package)):
            home = getattr(getattr(package, name), "__module__", None)
            if home is not None:
                found.setdefault(f"{home}.{name}", f"{package.__name__}.{name}")
    return found


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link what annotations name by the module that defines it to the page of its public name.

    Internal types in an annotation and names of other libraries stay plain text; anything else is an error.
    """
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    names = public_names()
    known = names.get(target) or next((name for name in names.values() if name.rpartition(".")[2] == target), None)
    if known is not None and known != target:
        domain = env.get_domain("py")
        found = domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], known, node, contnode)
        if found is not None:
            return found
    foreign = "." in target and not target.startswith(project.replace("-", "_"))
    written = isinstance(contnode, literal)  # a role in a docstring or on a page
    return contnode if foreign or (not written and " " not in target) else None


def plain_aliases(app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, returns: Any) -> Any:
    """Show an alias inside a union by its name; Sphinx leaves its own wrapper around it there."""
    wrapper = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
    return tuple(text and wrapper.sub(r"\1", text) for text in (signature, returns))


def setup(app: Any) -> None:
    """Register what is above."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", plain_aliases)
