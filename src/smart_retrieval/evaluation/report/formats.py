"""Tables as Markdown, LaTeX and CSV, with every text escaped for where it goes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from ..charts import one_line
from .tables import MISSING, Cell, Table

#: Characters with which a spreadsheet takes a cell for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "…": r"\dots{}",
    "λ": r"$\lambda$",
}

# A bare < or & is no tag and no entity, and reads better as it is.
_TAG = re.compile(r"<(?! )")
_ENTITY = re.compile(r"&(?=[#\w])")
_MARKDOWN = re.compile(r"([\\`*_\[\]#|~$]|^[-+>])")


def to_markdown(table: Table) -> str:
    """One table, as GitHub and others show it."""
    head = _markdown_row([table.corner, *table.columns])
    body = [_markdown_row([label, *cells]) for label, cells in table.rows]
    rule = "|:--|" + "".join("--:|" if numeric else ":--|" for numeric in _numeric_columns(table))
    notes = ["", *(f"- {_markdown(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([f"**{_markdown(table.title)}**", "", head, rule, *body, *notes])


def _markdown_row(cells: Sequence[Cell | str]) -> str:
    return f"| {' | '.join(map(_markdown_cell, cells))} |"


def _markdown_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _markdown(cell)
    text = cell.text if cell.value is not None else _markdown(cell.text)
    text = f"**{text}**" if cell.best else text
    return text + (f" {_markdown(cell.mark)}" if cell.mark else "")


def _markdown(text: str) -> str:
    """Text without a meaning of its own in Markdown or HTML, on one line."""
    text = _ENTITY.sub("&amp;", one_line(text))
    return _MARKDOWN.sub(r"\\\1", _TAG.sub("&lt;", text))


def to_latex(table: Table) -> str:
    """One table, for the package booktabs."""
    kinds = "".join("r" if numeric else "l" for numeric in _numeric_columns(table))
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.title)}}}", rf"\begin{{tabular}}{{l{kinds}}}"]
    lines += [r"\toprule", _latex_row([_latex(table.corner), *map(_latex, table.columns)])]
    rows = [_latex_row([_latex(label), *map(_latex_cell, cells)]) for label, cells in table.rows]
    own = len(rows) - table.references
    lines += [r"\midrule", *rows[:own], *([r"\midrule"] if table.references else []), *rows[own:]]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        lines.append(r"\par\smallskip\footnotesize")
        lines += [f"{_latex(note[:1].upper() + note[1:])}." for note in table.notes]
    return "\n".join([*lines, r"\end{table}"])


def _latex_row(cells: Sequence[str]) -> str:
    # A row that begins with a bracket would be read as the option of the line end before it.
    first = f"{{}}{cells[0]}" if cells[0][:1] in ("[", "*") else cells[0]
    return " & ".join([first, *cells[1:]]) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell.text)
    if cell.value is not None:
        text = re.sub(r"(^|\()-(?=\d)", r"\1$-$", text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    mark = cell.mark.replace("*", r"\ast")
    return text + (f"$^{{{mark}}}$" if mark else "")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def to_csv(tables: Sequence[Table]) -> str:
    """All tables in one long table with a line a value (RFC 4180), for spreadsheets and data frames."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    tested = ("p_value", "ci_low", "ci_high")
    writer.writerow(("table", "row", "column", "value", "text", "best", "mark", *tested, "origin"))
    for table in tables:
        for label, cells, reference in table.marked_rows():
            for column, cell in zip(table.columns, cells, strict=True):
                more = cell.more or {}
                words = "" if cell.text == MISSING else _inert(cell.text)
                writer.writerow(
                    [
                        *map(_inert, (f"{table.name}: {table.title}", label, column)),
                        _number(cell.value),
                        words if cell.value is None else cell.text,
                        "yes" if cell.best else "",
                        cell.mark,
                        *(_number(more.get(name)) for name in tested),
                        "reference" if reference else "measured",
                    ]
                )
    return out.getvalue()


def _number(value: Any) -> str:
    return "" if value is None else repr(float(value))


def _inert(text: str) -> str:
    """Text that no spreadsheet computes: what it would take for a formula gets an apostrophe before it."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return f"'{plain}" if text.startswith(_FORMULA) or plain.lstrip(" ").startswith(_FORMULA) else plain


def to_dict(table: Table) -> dict[str, Any]:
    """One table, JSON-able."""

    def cell_dict(cell: Cell) -> dict[str, Any]:
        shown = {"text": cell.text, "value": cell.value, "best": cell.best, "mark": cell.mark}
        return shown | dict(cell.more or {})

    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [
            {
                "label": label,
                "reference": reference,
                "cells": dict(zip(table.columns, map(cell_dict, cells), strict=True)),
            }
            for label, cells, reference in table.marked_rows()
        ],
        "notes": list(table.notes),
    }


def _numeric_columns(table: Table) -> list[bool]:
    """Of each column, whether it holds a number."""
    return [any(cells[place].value is not None for _, cells in table.rows) for place in range(len(table.columns))]
