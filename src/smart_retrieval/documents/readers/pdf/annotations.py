"""What is filled into a form, and text written on a page as annotations: no part of the text that PDFium reads."""

from __future__ import annotations

import ctypes
from typing import Any

from ....extras import require
from ...sections import one_line
from .runs import TICKED, UNTICKED, Box, Run
from .text_page import PageArea

_HIDDEN = 2 | 32  # flags "hidden" and "no view"
_PASSWORD = 1 << 13
_MOST_ANNOTATIONS = 10_000
_MOST_OPTIONS = 1_000
_SHOWN_OPTIONS = 12
_LINE_HEIGHT = 14.0  # points: most of a line of a field


def page_annotations(document: Any, page: Any, area: PageArea) -> tuple[list[Run], int]:
    """Values of fields and free text as runs where they stand, and how many comments there are besides."""
    raw = require("pypdfium2.raw", "pdf")
    form = document.formenv.raw if document.formenv else None
    runs: list[Run] = []
    comments = 0
    for index in range(min(raw.FPDFPage_GetAnnotCount(page.raw), _MOST_ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            if raw.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
                continue
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            text = name = ""
            if kind == raw.FPDF_ANNOT_WIDGET and form:
                text, name = _field(raw, form, annotation)
            elif kind == raw.FPDF_ANNOT_FREETEXT:
                text = _string(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")
            elif kind not in {raw.FPDF_ANNOT_POPUP, raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_WIDGET}:
                comments += bool(one_line(_string(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")))
            if text:
                rect = raw.FS_RECTF()
                raw.FPDFAnnot_GetRect(annotation, ctypes.byref(rect))
                box = area.level(rect.left, rect.bottom, rect.right, rect.top, area.rotation)
                runs += _stacked(text, box, name)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return [run for run in runs if area.shows(run.box, 0)], comments


def _field(raw: Any, form: Any, annotation: Any) -> tuple[str, str]:
    """What a field holds, and its name."""
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    name = _string(raw.FPDFAnnot_GetFormFieldAlternateName, form, annotation)
    name = one_line(name or _string(raw.FPDFAnnot_GetFormFieldName, form, annotation)) or "?"
    if kind in {raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON}:
        return TICKED if raw.FPDFAnnot_IsChecked(form, annotation) else UNTICKED, name
    if kind in {raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX}:
        options = range(min(raw.FPDFAnnot_GetOptionCount(form, annotation), _MOST_OPTIONS))
        labels = [_string(raw.FPDFAnnot_GetOptionLabel, form, annotation, option) for option in options]
        ticks = [raw.FPDFAnnot_IsOptionSelected(form, annotation, option) for option in options]
        if kind == raw.FPDF_FORMFIELD_LISTBOX and len(labels) <= _SHOWN_OPTIONS:  # drawn with all that may be chosen
            marked = zip(labels, ticks, strict=True)
            return "\n".join(f"{TICKED if tick else UNTICKED} {label}" for label, tick in marked), name
        chosen = ", ".join(label for label, tick in zip(labels, ticks, strict=True) if tick)
        return chosen or _string(raw.FPDFAnnot_GetFormFieldValue, form, annotation), name
    if kind != raw.FPDF_FORMFIELD_TEXTFIELD or raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & _PASSWORD:
        return "", ""
    return _string(raw.FPDFAnnot_GetFormFieldValue, form, annotation), name


def _stacked(text: str, box: Box, field: str) -> list[Run]:
    """The lines of a text, from the top of its box."""
    lines = [cleaned for line in text.splitlines() if (cleaned := one_line(line))]
    if not lines:
        return []
    left, bottom, right, top = box
    height = min((top - bottom) / len(lines), _LINE_HEIGHT)
    if len(lines) == 1 and top - bottom < 2.5 * _LINE_HEIGHT:  # in the middle of its field, as it is drawn
        top -= (top - bottom - height) / 2
    return [
        Run(line, Box(left, top - height * (index + 1), right, top - height * index), field=field)
        for index, line in enumerate(lines)
    ]


def _string(function: Any, *arguments: Any) -> str:
    """What a function of PDFium writes into a buffer as UTF-16."""
    size = function(*arguments, None, 0)
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    function(*arguments, buffer, size)
    return bytes(buffer)[: size - 2].decode("utf-16-le", "replace")
