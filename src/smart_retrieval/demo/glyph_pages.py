"""A test collection of small synthetic pages: coloured shapes in a jittered grid, and queries that name some of them.

Nothing is downloaded: a page is a function of its split and its number, so :func:`glyph_collection` gives the same
pages on every machine, and pages of different splits never share a random stream. The judgments are complete: a page
is relevant when it holds every object a query names.

Two styles. ``"shapes"`` has 20 objects a page from 144 kinds, 12 shapes in 12 colours. ``"words"`` is the harder one:
coloured words, rendered in Pillow's built-in font, which a model has to read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import SmartError, one_of
from ..extras import require
from ..types import Array

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

#: Numbers of the random streams, so that no page a model was trained on is one that it is judged on.
SPLITS = {"train": 1, "validation": 2, "test": 3}

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "orange": (255, 140, 26),
    "yellow": (242, 208, 32),
    "green": (44, 150, 60),
    "blue": (38, 84, 200),
    "purple": (128, 60, 170),
    "pink": (240, 130, 190),
    "brown": (125, 78, 48),
    "grey": (140, 140, 140),
    "black": (30, 30, 30),
    "cyan": (60, 200, 215),
    "lime": (160, 225, 70),
}
SHAPES = (
    "circle", "square", "triangle", "diamond", "star", "cross", "ring", "moon", "arrow", "bar", "heart", "hourglass",
)  # fmt: skip
WORDS = (
    "apple", "bread", "cloud", "dance", "eagle", "flame", "grape", "house", "ivory", "juice", "knife", "lemon", "mouse",
    "night", "ocean", "piano",
)  # fmt: skip

Colour: TypeAlias = tuple[int, ...]

#: Beside the numbers of SPLITS.
_BINDING_STREAM = 4

#: Shapes are drawn this many times larger and then averaged down, for smooth edges.
_OVERSAMPLING = 3


@dataclass(frozen=True, slots=True)
class GlyphStyle:
    """How pages look: which kinds of objects (``"red circle"``) stand in how many rows and columns of cells.

    A cell's height and width in pixels are multiples of 32: a square of 32 x 32 is one visual token of Qwen3-VL.
    """

    kinds: tuple[str, ...]
    rows: int
    columns: int
    cell: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a page in pixels."""
        return self.rows * self.cell[0], self.columns * self.cell[1]


STYLES = {
    "shapes": GlyphStyle(tuple(f"{c} {s}" for s in SHAPES for c in COLOURS), rows=5, columns=4, cell=(32, 32)),
    "words": GlyphStyle(tuple(f"{c} {w}" for w in WORDS for c in COLOURS), rows=6, columns=2, cell=(32, 64)),
}


@dataclass(frozen=True, slots=True)
class GlyphPage:
    """One page before it is drawn: the kind in each cell, row by row, all different.

    ``id`` is split and number, such as ``"test-00017"``; ``stream`` seeds the page's own random stream.
    """

    id: str
    objects: tuple[str, ...]
    stream: tuple[int, ...]
    style: str = "shapes"

    def pixels(self) -> NDArray[np.uint8]:
        """The page, ``[height, width, 3]``, the same on every call; needs Pillow."""
        return _draw(self)

    def image(self) -> Image.Image:
        """The page as a Pillow image."""
        made: Image.Image = require("PIL.Image", "image").fromarray(self.pixels())
        return made


@dataclass(frozen=True, slots=True)
class GlyphQuery:
    """A query that names objects of one page: ``"red circle, blue star"``."""

    id: str
    text: str
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GlyphCollection:
    """Pages, one query for each, and by query the ids of all pages that hold every object it names, with grade 1."""

    pages: list[GlyphPage]
    queries: list[GlyphQuery]
    qrels: dict[str, dict[str, int]]


def glyph_collection(split: str, pages: int, *, seed: int = 0, style: str = "shapes") -> GlyphCollection:
    """Build pages, one query for each, and the judgments.

    The first pages of a longer collection are those of a shorter one. Ranking 1,000 pages of shapes at random reaches
    an nDCG@10 of about .05, because short queries match many pages; scores that count the objects found reach 1.

    Raises:
        SmartError: The split or the style is unknown.

    Example:
        >>> test = glyph_collection("test", 3)
        >>> test.pages[0].id, len(test.pages[0].objects), test.qrels[test.queries[0].id]
        ('test-00000', 20, {'test-00000': 1})
    """
    made = [glyph_page(split, number, seed=seed, style=style) for number in range(pages)]
    queries = [_query(page) for page in made]
    return GlyphCollection(made, queries, judgments(queries, made))


def write_beir(collection: GlyphCollection, folder: str | Path) -> Path:
    """Write a collection in the BEIR layout, its pages as pictures, for ``smart eval beir`` and ``smart eval layers``.

    Example:
        >>> write_beir(glyph_collection("test", 100), "glyph-pages")  # doctest: +SKIP
    """
    folder = Path(folder)
    for inner in ("pages", "qrels"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for page in collection.pages:
        page.image().save(folder / "pages" / f"{page.id}.png")
    documents = [{"_id": page.id, "image": f"pages/{page.id}.png"} for page in collection.pages]
    queries = [{"_id": query.id, "text": query.text} for query in collection.queries]
    for name, rows in (("corpus.jsonl", documents), ("queries.jsonl", queries)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judged = [f"{query}\t{page}\t{grade}\n" for query, own in collection.qrels.items() for page, grade in own.items()]
    (folder / "qrels" / "test.tsv").write_text("".join(judged), encoding="utf-8")
    return folder


def glyph_page(split: str, number: int, *, seed: int = 0, style: str = "shapes") -> GlyphPage:
    """Choose the objects of one page."""
    if split not in SPLITS:
        raise SmartError(f"split: {one_of(split, SPLITS)}")
    if style not in STYLES:
        raise SmartError(f"style: {one_of(style, STYLES)}")
    look = STYLES[style]
    stream = (seed, SPLITS[split], sorted(STYLES).index(style), number)
    chosen = np.random.default_rng((*stream, 0)).permutation(len(look.kinds))[: look.rows * look.columns]
    return GlyphPage(f"{split}-{number:05d}", tuple(look.kinds[kind] for kind in chosen), stream, style)


def _query(page: GlyphPage) -> GlyphQuery:
    """Name one to four objects of a page, in random order."""
    rng = np.random.default_rng((*page.stream, 1))
    count = int(rng.integers(1, 5))
    objects = tuple(page.objects[cell] for cell in rng.permutation(len(page.objects))[:count])
    return GlyphQuery(f"q-{page.id}", ", ".join(objects), objects)


@dataclass(frozen=True, slots=True)
class BindingTask:
    """Pairs of pages that differ only in which colour belongs to which shape, and queries that tell them apart.

    ``queries[i]`` is answered by page ``2 * pair`` or ``2 * pair + 1`` of ``pages``, and never by its twin.
    """

    pages: list[GlyphPage]
    queries: list[str]
    answers: list[int]  # places in pages

    def twin(self, page: int) -> int:
        """The place of the page that has the same colours and the same shapes in other combinations."""
        return page ^ 1


def binding_task(pairs: int = 40, queries: int = 1000, *, seed: int = 0) -> BindingTask:
    """The local-binding test on glyph's pages (as in arXiv 2605.24938, whose pages and queries are not published).

    The objects of a page have its twin's colours and shapes, the colours moved on by one object each, so that what the
    two hold differs in combinations alone. A query names two objects that no other page holds together.

    Args:
        pairs: Pairs of pages.
        queries: Queries, spread evenly over the pages.
        seed: Of objects, drawing and queries.

    Example:
        >>> task = binding_task(2, 8)
        >>> len(task.pages), len(task.queries), task.answers[:4]
        (4, 8, [0, 1, 2, 3])
    """
    if pairs < 1 or queries < 1:
        raise SmartError(f"binding task: found {pairs} pairs and {queries} queries, expected at least 1 of each")
    look = STYLES["shapes"]
    pages: list[GlyphPage] = []
    for pair in range(pairs):
        stream = (seed, _BINDING_STREAM, pair)
        rng = np.random.default_rng((*stream, 0))
        colours = [str(colour) for colour in rng.permutation([*COLOURS])]
        shapes = [str(shape) for shape in rng.permutation(SHAPES)]
        moved = [*colours[1:], colours[0]]
        for side, own in enumerate((colours, moved)):
            objects = tuple(f"{colour} {shape}" for colour, shape in zip(own, shapes, strict=True))
            # Both are drawn from one stream: places, sizes and turns of the shapes are the same.
            pages.append(GlyphPage(f"binding-{pair:03d}-{side}", objects[: look.rows * look.columns], stream))
    holders = Counter(together for page in pages for together in combinations(sorted(page.objects), 2))
    answers = [number % len(pages) for number in range(queries)]
    texts: list[str] = []
    for number, page in enumerate(answers):
        unique = [one for one in combinations(sorted(pages[page].objects), 2) if holders[one] == 1]
        if not unique:
            raise SmartError(f"binding task: found {pairs} pairs, expected fewer: two objects tell no page apart")
        rng = np.random.default_rng((seed, _BINDING_STREAM, pairs, number))
        texts.append(", ".join(rng.permutation(unique[int(rng.integers(len(unique)))]).tolist()))
    return BindingTask(pages, texts, answers)


def judgments(queries: Sequence[GlyphQuery], pages: Sequence[GlyphPage]) -> dict[str, dict[str, int]]:
    """By query id, grade 1 for every page that holds all objects of the query; there may be none."""
    holders: dict[str, set[int]] = {}
    for place, page in enumerate(pages):
        for kind in page.objects:
            holders.setdefault(kind, set()).add(place)
    return {
        query.id: {
            pages[place].id: 1
            for place in sorted(set.intersection(*(holders.get(kind, set()) for kind in query.objects)))
        }
        for query in queries
    }


def held(objects: Iterable[Sequence[str]], style: str = "shapes") -> NDArray[np.bool_]:
    """Which kinds each page or query holds, ``[items, kinds]``.

    For queries Q and pages P as integers, ``(Q @ (1 - P).T) == 0`` gives the relevant pages.
    """
    place = {kind: number for number, kind in enumerate(STYLES[style].kinds)}
    rows = [[place[kind] for kind in item] for item in objects]
    marks = np.zeros((len(rows), len(place)), np.bool_)
    for row, kinds in enumerate(rows):
        marks[row, kinds] = True
    return marks


def _draw(page: GlyphPage) -> NDArray[np.uint8]:
    """Draw with jitter in place, size, colour and background, all from the page's own stream."""
    image_module, draw_module = require("PIL.Image", "image"), require("PIL.ImageDraw", "image")
    look, rng = STYLES[page.style], np.random.default_rng((*page.stream, 2))
    height, width = look.size
    paper: Colour = tuple(int(v) for v in rng.integers(225, 256, size=3))
    canvas = image_module.new("RGB", (width * _OVERSAMPLING, height * _OVERSAMPLING), paper)
    draw = draw_module.Draw(canvas)
    for cell, kind in enumerate(page.objects):
        colour, name = kind.split(" ")
        row, column = divmod(cell, look.columns)
        ink: Colour = tuple(int(v) for v in np.clip(np.array(COLOURS[colour]) + rng.integers(-14, 15, size=3), 0, 255))
        centre = (np.array([column + 0.5, row + 0.5]) * look.cell[::-1] + rng.uniform(-4, 4, size=2)) * _OVERSAMPLING
        if page.style == "words":
            font = _font(int(rng.integers(13, 18)) * _OVERSAMPLING)
            draw.text((float(centre[0]), float(centre[1])), name, fill=ink, font=font, anchor="mm")
        else:
            _draw_shape(draw, name, centre, rng, ink, paper)
    noise = rng.normal(0, 4, size=(height, width, 3))
    pixels = np.asarray(canvas.reduce(_OVERSAMPLING), np.float64) + noise
    drawn: NDArray[np.uint8] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return drawn


def _draw_shape(
    draw: ImageDraw.ImageDraw, name: str, centre: Array, rng: np.random.Generator, ink: Colour, paper: Colour
) -> None:
    """Draw one shape: its outline in the unit circle, scaled, slightly turned, moved."""
    radius = rng.uniform(9.0, 12.5) * _OVERSAMPLING
    turn = rng.uniform(-0.15, 0.15)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])

    def disc(x: float, y: float, share: float, fill: Colour) -> None:
        middle = centre + np.array([x, y]) * radius
        draw.ellipse([*(middle - share * radius), *(middle + share * radius)], fill=fill)

    if name in ("circle", "ring", "moon"):
        disc(0, 0, 1, ink)
        if name == "ring":
            disc(0, 0, 0.55, paper)
        if name == "moon":
            disc(0.5, -0.2, 0.8, paper)
        return
    outline = np.array(_OUTLINES[name]) @ rotation * radius + centre
    draw.polygon([(float(x), float(y)) for x, y in outline], fill=ink)


@cache
def _font(size: int) -> Any:
    """Pillow's built-in font."""
    return require("PIL.ImageFont", "image").load_default(size)


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    angles = [math.pi * number / points - math.pi / 2 for number in range(2 * points)]
    return [
        (math.cos(angle) * (inner if number % 2 else 1), math.sin(angle) * (inner if number % 2 else 1))
        for number, angle in enumerate(angles)
    ]


def _heart() -> list[tuple[float, float]]:
    steps = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    across = 16 * np.sin(steps) ** 3
    up = 13 * np.cos(steps) - 5 * np.cos(2 * steps) - 2 * np.cos(3 * steps) - np.cos(4 * steps)
    return [(float(x) / 16, -float(y) / 16) for x, y in zip(across, up, strict=True)]


#: Corners in a coordinate system with x to the right, y down and the object within [-1, 1].
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (0.95, 0.8), (-0.95, 0.8)],
    "diamond": [(0, -1.05), (0.7, 0), (0, 1.05), (-0.7, 0)],
    "star": _star(5, 0.42),
    "cross": [
        *[(-0.32, -1.0), (0.32, -1.0), (0.32, -0.32), (1.0, -0.32), (1.0, 0.32), (0.32, 0.32)],
        *[(0.32, 1.0), (-0.32, 1.0), (-0.32, 0.32), (-1.0, 0.32), (-1.0, -0.32), (-0.32, -0.32)],
    ],
    "arrow": [(-1, -0.28), (0.1, -0.28), (0.1, -0.85), (1, 0), (0.1, 0.85), (0.1, 0.28), (-1, 0.28)],
    "bar": [(-1.1, -0.3), (1.1, -0.3), (1.1, 0.3), (-1.1, 0.3)],
    "heart": _heart(),
    "hourglass": [(-0.8, -1), (0.8, -1), (0.15, 0), (0.8, 1), (-0.8, 1), (-0.15, 0)],
}
