"""What charts share: labels, styles, files and SVG elements that do not vary."""

import pytest

from smart_retrieval.errors import ReportError, SmartError
from smart_retrieval.evaluation.charts import (
    COLOURS,
    MARKERS,
    new_figure,
    plain_label,
    save_figure,
    styles,
    svg_element,
)

pytest.importorskip("matplotlib")


def drawn():
    figure = new_figure(3, 2)
    figure.add_subplot().plot([1, 2], [3, 4], label="a")
    return figure


def test_labels():
    assert plain_label("__a $x$\nb") == r"a \$x\$ b"
    assert plain_label("__") == "__"


def test_styles_repeat_late():
    found = styles(map(str, range(len(COLOURS) * len(MARKERS))))
    assert len({tuple(style.values()) for style in found.values()}) == len(found)


def test_svg_elements_are_the_same_every_time():
    text = svg_element(drawn(), "A line", {COLOURS[0]: "var(--a)"})
    assert text.startswith("<svg ")
    assert text.rstrip().endswith("</svg>")
    assert "Date" not in text
    assert svg_element(drawn(), "A line", {COLOURS[0]: "var(--a)"}) == text


def test_files(tmp_path):
    figure = drawn()
    assert save_figure(figure, tmp_path / "new/a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in save_figure(figure, tmp_path / "a.SVG").read_text()
    with pytest.raises(SmartError, match=r"cannot write .*a\.nothing.*such as a\.png"):
        save_figure(figure, tmp_path / "a.nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot write"):
        save_figure(figure, tmp_path / "file/a.png", ReportError)
