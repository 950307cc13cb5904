"""Every hidden state of a judged collection, encoded once; any readout and scoring is then measured from there."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...core.hybrid import anchor_scores
from ...core.late import DEFAULT_MEMORY, best_similarities, document_blocks, token_shares, weighted_parts
from ...core.presets import Preset
from ...core.readout import Readout
from ...core.roles import TOKEN_FILTERS, TokenRole, kept_roles
from ...core.scoring import TOKEN_WEIGHTS
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...errors import ReadoutError, ScoringError, SmartWarning, UnsupportedModelError, one_of
from ...model.saving import check_layers
from ...types import Array
from ..beir import BeirDataset
from ..cache import Encoding, encode_dataset
from ..evaluate import GAIN_METRIC
from ..metrics import METRICS, per_query_metrics, rank

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel
    from ..cache import EncodingCache


#: Layers that are kept of a model with more.
MOST_LAYERS = 8


@dataclass(frozen=True)
class KeptRows:
    """The rows of wide embeddings that a token filter keeps.

    Attributes:
        rows: Their numbers, ascending.
        offsets: ``[N + 1]``; an item of which nothing is kept has its first row here.
        bare: Numbers of those items.
    """

    rows: Array
    offsets: Array
    bare: Array

    @classmethod
    def of(cls, wide: SmartEmbeddings, token_filter: str) -> KeptRows:
        """Choose rows by their roles. Special tokens are there only where they stand in for an empty item."""
        kept = np.isin(wide.roles, [int(role) for role in kept_roles(token_filter) if role != TokenRole.SPECIAL])
        filled = np.diff(np.concatenate([[0], np.cumsum(kept)])[wide.offsets]) > 0
        bare = np.flatnonzero(~filled & (wide.lengths > 0))
        kept[wide.offsets[bare]] = True
        return cls(np.flatnonzero(kept), np.concatenate([[0], np.cumsum(kept)])[wide.offsets], bare)


def spread(states: int, own: Sequence[int]) -> tuple[int, ...]:
    """All layers, or as many as are kept of them: evenly spread, with the last three and a readout's own."""
    if states <= MOST_LAYERS:
        return tuple(range(states))
    spread = np.linspace(0, states - 4, MOST_LAYERS - 3).round().astype(int).tolist()
    return tuple(sorted({*spread, *range(states - 3, states), *own}))


def mixed(states: Array, slices: Sequence[int] | None, layers: int, mix: str) -> Array:
    """Token vectors of some layers out of rows that hold all of them side by side."""
    if slices is None:
        return states
    width = states.shape[1] // layers
    parts = [_unit(states[:, place * width : (place + 1) * width]) for place in slices]
    if len(parts) == 1:
        return parts[0]
    if mix == "concat":
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))
    total = parts[0]
    for other in parts[1:]:
        total += other
    return _unit(total)


def _unit(rows: Array) -> Array:
    values = np.array(rows, np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))[:, None]
    values /= np.where(norms > 0, norms, 1)
    return values


Task = Literal["query", "document"]

#: Bytes of the best similarities kept of the readout that was asked for last.
KEPT_SIMILARITIES = 256 * 2**20

#: How deep a ranking must be for each metric.
_DEPTHS = {"ndcg@10": 10, "recall@100": 100, "mrr@10": 10, "map": 1000}

#: Query tokens that meet the documents at once.
_QUERY_ROWS = 1024


class Sweep:
    """Every hidden state of a judged collection, encoded once, from which any readout and scoring is measured.

    The token vectors of all layers lie side by side, as ``Readout(mix="concat")`` lays them; a slice of them, brought
    back to unit length, is one layer's vector. On disk that takes 4 bytes x layers x width a token (with a cache; in
    memory without one). In memory there is at any time one block of documents of `late.DEFAULT_MEMORY` bytes, at most
    `KEPT_SIMILARITIES` of best similarities, and ``[Nq, Nd]`` scores: `sample` bounds those of a large collection.

    Args:
        smart: The model.
        data: The collection.
        layers: Absolute, ascending: the layers encoded.
        encodings: Documents and queries, all layers side by side; with an adapter, its token vectors.
        cache: Where encodings are kept.
        batch_size: Most texts in one forward pass.

    Attributes:
        documents: The documents' wide embeddings.
        queries: The queries'.
        settled: Whether the model has an adapter: then layers and mix are those it was trained on, and only filter
            and scoring can be chosen.

    Example:
        >>> sweep = Sweep.encode(SmartModel("minilm"), load_beir("cranfield"))  # doctest: +SKIP
        >>> paper = get_preset("paper")  # doctest: +SKIP
        >>> round(sweep.per_query(paper).mean(), 3)  # doctest: +SKIP
        0.45
    """

    def __init__(
        self,
        smart: SmartModel,
        data: BeirDataset,
        layers: tuple[int, ...],
        encodings: tuple[Encoding, Encoding],
        *,
        cache: EncodingCache | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.smart, self.data, self.layers = smart, data, layers
        self.documents, self.queries = (encoding.embeddings for encoding in encodings)
        self.encodings = encodings
        self.settled = smart.adapter is not None
        self._cache, self._batch_size = cache, batch_size
        self._parts: dict[tuple[Task, str], KeptRows] = {}
        self._projected: tuple[SmartEmbeddings, SmartEmbeddings] | None = None
        self._bare: dict[Task, tuple[Readout, SmartEmbeddings]] = {}
        self._idfs: dict[str, IdfWeights] = {}
        self._best: tuple[Readout, Array] | None = None

    @classmethod
    def encode(
        cls,
        smart: SmartModel,
        data: BeirDataset,
        *,
        layers: Sequence[int] | None = None,
        cache: EncodingCache | None = None,
        batch_size: int | None = None,
        progress: bool | None = False,
    ) -> Sweep:
        """Encode a collection, or find it in the cache.

        Args:
            smart: The model. One with an adapter is swept over filters and scoring alone, its layers being settled.
            data: The collection; a large one is best cut by `sample` first.
            layers: Hidden states to keep. None takes all, of many-layered models `MOST_LAYERS` evenly spread ones with
                the last three among them, and those of the model's own readout besides.
            cache: Where encodings are kept, memory-mapped. With None they are held in memory.
            batch_size: Most texts in one forward pass; the model's default when None.
            progress: Draw bars on stderr; None draws them on a terminal only.

        Raises:
            AdapterMismatchError: Layers are named for a model with an adapter, other than its own.
            ReadoutError: A layer is out of range.
            SmartError: The model cannot be run; the cache cannot be written.
        """
        states = smart.backbone.n_states
        if smart.adapter is not None:
            own = smart.readout
            if layers is not None:
                check_layers(replace(own, layers=tuple(layers)), own)
            chosen, wide = own.resolve_layers(states), replace(own, token_filter="paper")
        else:
            named = spread(states, smart.readout.resolve_layers(states)) if layers is None else tuple(layers)
            wide = Readout(named, "concat")
            chosen = wide.resolve_layers(states)
            if chosen == (states - 1,):
                wide = Readout((-1,), "concat")
        options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
        try:
            encodings = encode_dataset(smart.with_readout(wide), data, cache, **options)
        except UnsupportedModelError:
            if layers is not None or wide.reads_last_state_only:
                raise
            # A backbone that hands out its last state alone.
            chosen, wide = (states - 1,), Readout((-1,), "concat")
            encodings = encode_dataset(smart.with_readout(wide), data, cache, **options)
        return cls(smart, data, chosen, encodings, cache=cache, batch_size=batch_size)

    # -- what it can be read as --------------------------------------------------------------------------------

    @cached_property
    def token_filters(self) -> tuple[str, ...]:
        """The token filters that differ on these data: ``"paper"`` alone where there is no prompt and no template."""
        kept = [int(role) for role in kept_roles("content")]
        roles = (self.documents.roles, self.queries.roles)
        # What else the wide encoding holds of special tokens only stands in for empty texts.
        same = all(np.isin(own, [*kept, int(TokenRole.SPECIAL)]).all() for own in roles)
        return ("paper",) if same else TOKEN_FILTERS

    def embeddings(self, task: Task, readout: Readout) -> SmartEmbeddings:
        """What the model would have given with this readout, in memory.

        Args:
            task: ``"query"`` or ``"document"``.
            readout: It.

        Raises:
            ReadoutError: A layer was not encoded.
            AdapterMismatchError: The model has an adapter, and the layers are not its own.
        """
        return self._read(task, readout, slice(0, len(self._wide(task, readout))))

    # -- scores ------------------------------------------------------------------------------------------------

    def anchor(self) -> Array:
        """Anchor scores, ``[Nq, Nd]`` float32, computed once. Not to be written to."""
        return self._anchor

    @cached_property
    def _anchor(self) -> Array:
        scores = anchor_scores(self.queries, self.documents)
        scores.flags.writeable = False
        return scores

    def late(self, readout: Readout, weights: str = "uniform", floor: float | None = None) -> Array:
        """Late scores, ``[Nq, Nd]`` float32.

        Args:
            readout: Layers, mix and token filter.
            weights: ``"uniform"`` or ``"idf"``, the latter from these documents.
            floor: Token similarities that count as none.

        Raises:
            ReadoutError: A layer was not encoded.
            ScoringError: The weights are unknown, or the floor is not below 1.
        """
        return self.lates(readout, [(weights, floor)])[0]

    def lates(self, readout: Readout, settings: Sequence[tuple[str, float | None]]) -> list[Array]:
        """`late` for several pairs of weights and floor, which share the costly part."""
        for weights, _ in settings:
            if weights not in TOKEN_WEIGHTS:
                raise ScoringError(f"token weights: {one_of(weights, TOKEN_WEIGHTS)}")
        queries = self.embeddings("query", readout)
        count = len(self.documents)
        shares = {
            weights: token_shares(queries, self._idf(readout) if weights == "idf" else None)
            for weights in dict.fromkeys(weights for weights, _ in settings)
        }
        scores = [np.zeros((len(queries), count), np.float32) for _ in settings]
        keep = 4 * len(queries.token_vectors) * count <= KEPT_SIMILARITIES
        best = self._best[1] if keep and self._best is not None and self._best[0] == readout else None
        fresh = np.empty((len(queries.token_vectors), count), np.float32) if keep and best is None else None
        for documents in self._document_blocks(readout):
            block = self._read("document", readout, documents) if best is None else None
            for part in document_blocks(queries.offsets, _QUERY_ROWS):
                rows = slice(int(queries.offsets[part.start]), int(queries.offsets[part.stop]))
                if best is not None:
                    similar = best[rows, documents]
                elif block is not None:
                    similar = best_similarities(np.asarray(queries.token_vectors[rows], np.float32), block)
                if fresh is not None:
                    fresh[rows, documents] = similar
                filled = queries.lengths[part] > 0
                if not filled.any():
                    continue
                starts = (queries.offsets[part] - rows.start)[filled]
                items = np.arange(part.start, part.stop)[filled]
                for own, (weights, floor) in zip(scores, settings, strict=True):
                    weighted = weighted_parts(similar, shares[weights][rows], floor)
                    own[items, documents] = np.add.reduceat(weighted, starts, axis=0)
        if fresh is not None:
            self._best = (readout, fresh)
        return scores

    def judge(self, scores: Array, metric: str = GAIN_METRIC) -> Array:
        """A metric of every query, ``[Nq]``, for ``[Nq, Nd]`` scores of the documents; ties by document id.

        Raises:
            ScoringError: There is no such metric.
        """
        if metric not in METRICS:
            raise ScoringError(f"metric: {one_of(metric, METRICS)}")
        ranked = rank(scores, self.data.document_ids, _DEPTHS[metric])
        return per_query_metrics(self.data.qrels, dict(zip(self.data.query_ids, ranked, strict=True)))[metric]

    def per_query(
        self, setting: Preset, metric: str = GAIN_METRIC, system: Literal["anchor", "late", "hybrid"] = "hybrid"
    ) -> Array:
        """A metric of every query under a setting, ``[Nq]``."""
        if system == "anchor":
            return self.judge(self.anchor(), metric)
        if system == "hybrid" and not setting.scoring.lambda_late:
            # Nothing of the late score is needed, nor may its layers have been encoded.
            return self.judge(setting.scoring.combine(self.anchor(), self.anchor()), metric)
        late = self.late(setting.readout, str(setting.scoring.weights), setting.scoring.floor)
        return self.judge(late if system == "late" else setting.scoring.combine(self.anchor(), late), metric)

    # -- inside ------------------------------------------------------------------------------------------------

    def _wide(self, task: Task, readout: Readout) -> SmartEmbeddings:
        """Where a readout's vectors come from."""
        if self._projects(readout):
            if self._projected is None:
                own = self.smart.with_readout(Readout((-1,)))
                documents, queries = encode_dataset(own, self.data, self._cache, batch_size=self._batch_size)
                self._projected = (documents.embeddings, queries.embeddings)
            return self._projected[0] if task == "document" else self._projected[1]
        return self.documents if task == "document" else self.queries

    def _projects(self, readout: Readout) -> bool:
        """Whether the last state comes from a projection behind the last layer, and is no hidden state."""
        smart = self.smart
        return (
            not self.settled
            and readout.reads_last_state_only
            and len(self.layers) > 1
            and smart.backbone.output_size != smart.backbone.hidden_size
        )

    def _slices(self, readout: Readout) -> list[int] | None:
        """Places of a readout's layers among those encoded; None to take the vectors as they are."""
        if self.settled:
            check_layers(readout, self.smart.readout)
            return None
        if self._projects(readout):
            return None
        resolved = readout.resolve_layers(self.smart.backbone.n_states)
        if missing := [layer for layer in resolved if layer not in self.layers]:
            raise ReadoutError(
                f"sweep: found layers {missing} in {readout}, expected some of {list(self.layers)}, which were "
                "encoded: name them under layers when encoding"
            )
        return None if self.layers == resolved and len(resolved) == 1 else [self.layers.index(n) for n in resolved]

    def _document_blocks(self, readout: Readout) -> list[slice]:
        width = self.documents.token_dim
        # The wide rows, the readout's own and the similarities are there at once.
        rows = DEFAULT_MEMORY // (4 * (2 * width + _QUERY_ROWS))
        return list(document_blocks(self._wide("document", readout).offsets, max(1, rows)))

    def _part(self, task: Task, readout: Readout) -> KeptRows:
        """Which rows a token filter keeps."""
        key: tuple[Task, str] = (task, f"{readout.token_filter} {self._projects(readout)}")
        if key not in self._parts:
            self._parts[key] = KeptRows.of(self._wide(task, readout), readout.token_filter)
        return self._parts[key]

    def _idf(self, readout: Readout) -> IdfWeights:
        """IDF weights of these documents' tokens, which depend on the filter alone."""
        if readout.token_filter not in self._idfs:
            documents, part = self._wide("document", readout), self._part("document", readout)
            ids = np.array(documents.token_ids[part.rows])
            if len(part.bare):
                ids[part.offsets[part.bare]] = self._stand_ins("document", readout, part.bare).token_ids
            # Vectors are not looked at when documents are counted.
            counted = SmartEmbeddings(documents.anchors, np.zeros((len(ids), 0), np.float32), part.offsets, ids)
            self._idfs[readout.token_filter] = IdfWeights.fit(counted)
        return self._idfs[readout.token_filter]

    def _read(self, task: Task, readout: Readout, items: slice) -> SmartEmbeddings:
        """Some items' embeddings under a readout."""
        wide, slices, part = self._wide(task, readout), self._slices(readout), self._part(task, readout)
        first, last = int(part.offsets[items.start]), int(part.offsets[items.stop])
        rows = part.rows[first:last]
        states = np.asarray(wide.token_vectors[rows[0] : rows[-1] + 1] if len(rows) else wide.token_vectors[:0])
        if len(rows) != len(states):
            states = states[rows - rows[0]]
        vectors = mixed(states, slices, len(self.layers), readout.mix).astype(wide.token_vectors.dtype, copy=False)
        read = SmartEmbeddings(
            wide.anchors[items],
            vectors,
            part.offsets[items.start : items.stop + 1] - first,
            wide.token_ids[rows],
            wide.roles[rows],
            tokenizer=self.smart.tokenizer,
        )
        inside = (part.bare >= items.start) & (part.bare < items.stop)
        if inside.any():
            own = self._stand_ins(task, readout, part.bare)
            places = read.offsets[part.bare[inside] - items.start]
            for name in ("token_vectors", "token_ids", "roles"):
                values = np.array(getattr(read, name))
                values[places] = getattr(own, name)[inside]
                setattr(read, name, values)
        return read

    def _stand_ins(self, task: Task, readout: Readout, bare: Array) -> SmartEmbeddings:
        """Items of which nothing is kept have one vector in place of their tokens; the model itself gives it."""
        if task not in self._bare or self._bare[task][0] != readout:
            texts = self.data.texts if task == "document" else self.data.queries
            own = self.smart.with_readout(readout)
            encode = own.encode_document if task == "document" else own.encode_query
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SmartWarning)
                found = encode(
                    [texts[item] for item in bare.tolist()], batch_size=self._batch_size, show_progress=False
                )
            self._bare[task] = (readout, found)
        return self._bare[task][1]
