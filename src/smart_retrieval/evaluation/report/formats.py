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

#: Columns of the CSV.
CSV_COLUMNS = ("table", "row", "column", "value", "text", "best", "mark", "p_value", "ci_low", "ci_high", "origin")


def to_markdown(table: Table) -> str:
    r"""One table, as GitHub and others show it.

    Example:
        >>> print(to_markdown(Table("quality", "MAP", "system", ("a_b",), (("x|y", (Cell("0.5", 0.5, True),)),))))
        **MAP**
        <BLANKLINE>
        | system | a\_b |
        |:--|--:|
        | x\|y | **0.5** |
    """
    lines = [f"**{_markdown(table.title)}**", ""]
    lines.append(_markdown_row([_markdown(table.corner), *map(_markdown, table.columns)]))
    lines.append(
        "|:--|" + "".join(":--|" if _of_words(table, place) else "--:|" for place in range(len(table.columns)))
    )
    lines += [_markdown_row([_markdown(label), *map(_markdown_cell, cells)]) for label, cells in table.rows]
    if table.notes:
        lines += ["", *(f"- {_markdown(note)}" for note in table.notes)]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    text = cell.text if cell.value is not None else _markdown(cell.text)
    text = f"**{text}**" if cell.best else text
    return text + (f" {_markdown(cell.mark)}" if cell.mark else "")


def _markdown(text: str) -> str:
    """Text without a meaning of its own in Markdown or HTML, on one line."""
    text = _ENTITY.sub("&amp;", one_line(text))
    return _MARKDOWN.sub(r"\\\1", _TAG.sub("&lt;", text))


def to_latex(table: Table) -> str:
    r"""One table, for the package booktabs.

    Example:
        >>> print(to_latex(Table("quality", "MAP", "system", ("a_b",), (("50 %", (Cell("0.5", 0.5, True),)),))))
        \begin{table}
        \centering
        \caption{MAP}
        \begin{tabular}{lr}
        \toprule
        system & a\_b \\
        \midrule
        50 \% & \textbf{0.5} \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    places = range(len(table.columns))
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.title)}}}"]
    lines.append(rf"\begin{{tabular}}{{l{''.join('l' if _of_words(table, place) else 'r' for place in places)}}}")
    lines += [r"\toprule", _latex_row([_latex(table.corner), *map(_latex, table.columns)]), r"\midrule"]
    for number, (label, cells) in enumerate(table.rows):
        if table.references and number == len(table.rows) - table.references:
            lines.append(r"\midrule")
        lines.append(_latex_row([_latex(label), *map(_latex_cell, cells)]))
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
    """All tables in one long table with a line a value (RFC 4180), for spreadsheets and data frames.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.

    Example:
        >>> table = Table("quality", "MAP", "system", ("tiny",), (("=1+1", (Cell("0.5", 0.5),)),))
        >>> print(to_csv([table]).splitlines()[1])
        quality: MAP,'=1+1,tiny,0.5,0.5,,,,,,measured
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for number, (label, cells) in enumerate(table.rows):
            origin = "reference" if number >= len(table.rows) - table.references else "measured"
            for column, cell in zip(table.columns, cells, strict=True):
                more = cell.more or {}
                tested = [more.get(name) for name in ("p_value", "ci_low", "ci_high")]
                words = (f"{table.name}: {table.title}", label, column)
                shown = cell.text if cell.value is not None or cell.text != MISSING else ""
                writer.writerow(
                    [
                        *map(_inert, words),
                        _number(cell.value),
                        shown if cell.value is not None else _inert(shown),
                        "yes" if cell.best else "",
                        cell.mark,
                        *map(_number, tested),
                        origin,
                    ]
                )
    return out.getvalue()


def _number(value: Any) -> str:
    return "" if value is None else repr(float(value))


def _inert(text: str) -> str:
    """Text that no spreadsheet computes."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return f"'{plain}" if text.startswith(_FORMULA) or plain.lstrip(" ").startswith(_FORMULA) else plain


def to_dict(table: Table) -> dict[str, Any]:
    """One table, JSON-able."""
    rows = []
    for number, (label, cells) in enumerate(table.rows):
        named = {}
        for column, cell in zip(table.columns, cells, strict=True):
            named[column] = {"text": cell.text, "value": cell.value, "best": cell.best, "mark": cell.mark}
            named[column] |= dict(cell.more or {})
        reference = number >= len(table.rows) - table.references
        rows.append({"label": label, "reference": reference, "cells": named})
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": rows,
        "notes": list(table.notes),
    }


def _of_words(table: Table, place: int) -> bool:
    cells = [cells[place] for _, cells in table.rows]
    return not any(cell.value is not None for cell in cells)
