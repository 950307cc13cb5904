"""Every hidden state of a judged collection, encoded once; any readout and scoring is then measured from that."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ...core.collection import CollectionStatistics
from ...core.hybrid import anchor_scores
from ...core.late import DEFAULT_MEMORY, best_similarities, document_blocks, query_sums, token_shares, weighted_parts
from ...core.presets import Preset
from ...core.readout import Readout
from ...core.roles import TOKEN_FILTERS, TokenFilter, kept_rows
from ...core.scoring import TOKEN_WEIGHTS, Scoring, TokenWeights
from ...core.vectors import unit_rows
from ...core.weights import IdfWeights
from ...embeddings import SmartEmbeddings
from ...errors import ReadoutError, ScoringError, SmartWarning, UnsupportedModelError, one_of
from ...model.saving import check_layers
from ...types import Array
from ..beir import BeirDataset
from ..cache import Encoding, encode_dataset
from ..evaluate import GAIN_METRIC
from ..metrics import METRICS, per_query_metrics

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel
    from ..cache import EncodingCache

Task = Literal["query", "document"]

MOST_LAYERS = 8  #: layers encoded of a model that has more
_DEPTHS = {"ndcg@10": 10, "recall@100": 100, "mrr@10": 10, "map": 1000}  # how deep a ranking must be for each metric
_QUERY_ROWS = 1024  # query tokens compared with the documents in one matrix product


class Sweep:
    """Every hidden state of a judged collection, encoded once, from which any readout and scoring is measured.

    The token vectors of all layers lie side by side, as ``Readout(mix="concat")`` lays them; a slice of them, brought
    back to unit length, is one layer's vector. On disk that takes 4 bytes x layers x width a token (with a cache; in
    memory without one). In memory there is at any time one block of documents of `late.DEFAULT_MEMORY` bytes, and
    ``[Nq, Nd]`` scores for each weighting and floor of one readout: `sample` bounds those of a large collection.

    Made by `encode`.

    Attributes:
        smart: The model.
        data: The collection.
        layers: Absolute, ascending: the layers encoded.
        encodings: Documents and queries, all layers side by side; with an adapter, its token vectors.
        documents: The documents' embeddings, all layers side by side.
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
        self.smart, self.data, self.layers, self.encodings = smart, data, layers, encodings
        self.documents, self.queries = (encoding.embeddings for encoding in encodings)
        self.settled = smart.adapter is not None
        self._cache, self._batch_size = cache, batch_size
        self._kept_rows: dict[tuple[Task, str], KeptRows] = {}
        self._stand_ins: dict[tuple[Task, Readout], SmartEmbeddings] = {}
        self._idf_weights: dict[str, IdfWeights] = {}
        self._statistics: dict[Readout, CollectionStatistics] = {}

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
        states, own = smart.backbone.n_states, smart.readout
        everything = f"paper{TokenFilter.parse(own.token_filter).modifiers}"
        if smart.adapter is not None:
            if layers is not None:
                check_layers(replace(own, layers=tuple(layers)), own)
            chosen, readout = own.resolve_layers(states), replace(own, token_filter=everything)
        else:
            named = spread(states, own.resolve_layers(states)) if layers is None else tuple(layers)
            chosen = Readout(named).resolve_layers(states)
            # Of the last layer alone they are the ordinary token vectors, which other commands cache, too.
            last = chosen == (states - 1,)
            readout = Readout((-1,) if last else chosen, "mean" if last else "concat", everything)
        options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
        try:
            encodings = encode_dataset(smart.with_readout(readout), data, cache, **options)
        except UnsupportedModelError:
            if layers is not None or readout.reads_last_state_only:
                raise
            # A backbone that gives its last state alone.
            chosen = (states - 1,)
            encodings = encode_dataset(smart.with_readout(Readout(token_filter=everything)), data, cache, **options)
        return cls(smart, data, chosen, encodings, cache=cache, batch_size=batch_size)

    @cached_property
    def token_filters(self) -> tuple[str, ...]:
        """Token filters that differ on these data, ``"paper"`` alone where every token is content.

        All leave out the positions that the model's own filter leaves out whatever their role.
        """
        differ = any(not kept_rows(own.roles, "content").all() for own in (self.documents, self.queries))
        modifiers = TokenFilter.parse(self.smart.readout.token_filter).modifiers
        return tuple(f"{base}{modifiers}" for base in (TOKEN_FILTERS if differ else ("paper",)))

    def embeddings(self, task: Task, readout: Readout) -> SmartEmbeddings:
        """What the model itself would give with this readout, in memory.

        Args:
            task: ``"query"`` or ``"document"``.
            readout: Layers, mix and token filter.

        Raises:
            ReadoutError: A layer was not encoded.
            AdapterMismatchError: The model has an adapter, and the layers are not its own.
        """
        return self._read(task, readout, slice(0, len(self._encoded(task))))

    @cached_property
    def anchor(self) -> Array:
        """Anchor scores, ``[Nq, Nd]`` float32, read-only."""
        scores = anchor_scores(self.queries, self.documents)
        scores.flags.writeable = False
        return scores

    def late(self, readout: Readout, weights: TokenWeights = "uniform", floor: float | None = None) -> Array:
        """Late scores, ``[Nq, Nd]`` float32.

        Args:
            readout: Layers, mix and token filter.
            weights: Query-token weights; ``"idf"`` is fitted on these documents.
            floor: Token similarities up to here count as none.

        Raises:
            ReadoutError: A layer was not encoded.
            ScoringError: The weights are unknown, or the floor is not below 1.
        """
        return self.lates(readout, [Scoring(weights, floor=floor)])[0]

    def lates(self, readout: Readout, scorings: Sequence[Scoring]) -> list[Array]:
        """`late` under the weights and floors of several scorings, which share the costly part."""
        queries = self.embeddings("query", readout)
        scorings = [scoring.fitted(self.statistics(readout)) for scoring in scorings]
        shares = [token_shares(queries, scoring.query_weights) for scoring in scorings]
        scores = [np.zeros((len(queries), len(self.documents)), np.float32) for _ in scorings]
        # The rows of all layers, the readout's own and the similarities are in memory at once.
        block_rows = DEFAULT_MEMORY // (4 * (2 * self.documents.token_dim + _QUERY_ROWS))
        for documents in document_blocks(self.documents.offsets, max(1, block_rows)):
            block = self._read("document", readout, documents)
            for part in document_blocks(queries.offsets, _QUERY_ROWS):
                rows = slice(int(queries.offsets[part.start]), int(queries.offsets[part.stop]))
                similar = best_similarities(np.asarray(queries.token_vectors[rows], np.float32), block)
                for own, share, scoring in zip(scores, shares, scorings, strict=True):
                    weighted = weighted_parts(similar, share[rows], scoring.late_floor)
                    own[part, documents] = query_sums(weighted, queries[part].offsets)
        return scores

    def judge(self, scores: Array, metric: str = GAIN_METRIC) -> Array:
        """A metric of every query, ``[Nq]``, for ``[Nq, Nd]`` scores of the documents; ties by document id.

        Raises:
            ScoringError: There is no such metric.
        """
        if metric not in METRICS:
            raise ScoringError(f"metric: {one_of(metric, METRICS)}")
        return per_query_metrics(self.data.qrels, self.data.rank(scores, _DEPTHS[metric]))[metric]

    def per_query(
        self, setting: Preset, metric: str = GAIN_METRIC, system: Literal["anchor", "late", "hybrid"] = "hybrid"
    ) -> Array:
        """A metric of every query under a setting, ``[Nq]``.

        Args:
            setting: Readout and scoring; its weights must be a name.
            metric: One of `metrics.METRICS`.
            system: The setting's own sum, or one of its two parts.

        Raises:
            ReadoutError: A layer was not encoded.
            ScoringError: There is no such metric, or the weights have no name.
        """
        setting = replace(setting, scoring=system_scoring(setting.scoring, system))
        return self.measure([setting], metric)[setting]

    def measure(
        self,
        settings: Iterable[Preset],
        metric: str = GAIN_METRIC,
        advance: Callable[[int], None] = lambda settings: None,
    ) -> dict[Preset, Array]:
        """A metric of every query under each setting, ``[Nq]`` each; settings with one readout are scored together."""
        by_readout: dict[Readout, list[Preset]] = {}
        values: dict[Preset, Array] = {}
        for setting in dict.fromkeys(map(with_named_weights, settings)):
            if setting.scoring.lambda_late:
                by_readout.setdefault(self._normalised(setting.readout), []).append(setting)
            else:
                # Its layers may not have been encoded, and need not be.
                values[setting] = self.judge(setting.scoring.combine(self.anchor, self.anchor), metric)
                advance(1)
        for readout, own in by_readout.items():
            fitted = {setting: setting.scoring.fitted(self.statistics(readout)) for setting in own}
            parts = list(dict.fromkeys(_late_part(scoring) for scoring in fitted.values()))
            late = dict(zip(parts, self.lates(readout, parts), strict=True))
            for setting, scoring in fitted.items():
                scores = scoring.combine(self.anchor, late[_late_part(scoring)])
                values[setting] = self.judge(scores, metric)
                advance(1)
        return values

    def _normalised(self, readout: Readout) -> Readout:
        """One spelling for readouts of the same layers, counted from the end, -1 for the last."""
        states = self.smart.backbone.n_states
        if self.settled or self._has_projection:
            return readout
        return replace(readout, layers=tuple(layer - states for layer in readout.resolve_layers(states)))

    @property
    def _has_projection(self) -> bool:
        """Whether -1 is no hidden state but comes from a projection behind the last layer."""
        return self.smart.backbone.output_size != self.smart.backbone.hidden_size

    def _encoded(self, task: Task) -> SmartEmbeddings:
        return self.documents if task == "document" else self.queries

    @cached_property
    def _projected(self) -> dict[Task, Array]:
        """Token vectors of the projection, for the same rows as the layers'."""
        own = self.smart.with_readout(Readout((-1,)))
        documents, queries = encode_dataset(own, self.data, self._cache, batch_size=self._batch_size)
        return {"document": documents.embeddings.token_vectors, "query": queries.embeddings.token_vectors}

    def _vectors(self, task: Task, readout: Readout, rows: Array) -> Array:
        """Token vectors of some rows under a readout."""
        states = self._encoded(task).token_vectors
        if self.settled:
            check_layers(readout, self.smart.readout)
            return states[rows]
        if readout.reads_last_state_only and self._has_projection and len(self.layers) > 1:
            return self._projected[task][rows]
        chosen = readout.resolve_layers(self.smart.backbone.n_states)
        if missing := [layer for layer in chosen if layer not in self.layers]:
            raise ReadoutError(
                f"sweep: found layers {missing} in {readout}, expected some of {list(self.layers)}, which were "
                "encoded: name them under layers when encoding"
            )
        if self.layers == chosen and len(chosen) == 1:
            return states[rows]
        width = states.shape[1] // len(self.layers)
        starts = [self.layers.index(layer) * width for layer in chosen]
        layers = [unit_rows(states[rows, start : start + width]) for start in starts]
        return mix_layers(layers, readout.mix).astype(states.dtype, copy=False)

    def _read(self, task: Task, readout: Readout, items: slice) -> SmartEmbeddings:
        """Some items' embeddings under a readout."""
        encoded, kept = self._encoded(task), self._kept(task, readout.token_filter)
        first, last = int(kept.offsets[items.start]), int(kept.offsets[items.stop])
        rows = kept.rows[first:last]
        vectors, ids, roles = self._vectors(task, readout, rows), encoded.token_ids[rows], encoded.roles[rows]
        offsets = kept.offsets[items.start : items.stop + 1] - first
        inside = (kept.bare >= items.start) & (kept.bare < items.stop)
        if inside.any():
            places, own = offsets[kept.bare[inside] - items.start], self._encode_bare(task, readout)
            vectors[places], ids[places], roles[places] = (
                values[inside] for values in (own.token_vectors, own.token_ids, own.roles)
            )
        return SmartEmbeddings(encoded.anchors[items], vectors, offsets, ids, roles, tokenizer=self.smart.tokenizer)

    def _kept(self, task: Task, token_filter: str) -> KeptRows:
        if (task, token_filter) not in self._kept_rows:
            self._kept_rows[task, token_filter] = KeptRows.of(self._encoded(task), token_filter)
        return self._kept_rows[task, token_filter]

    def _encode_bare(self, task: Task, readout: Readout) -> SmartEmbeddings:
        """Items for whose tokens one vector stands in, which the model itself gives."""
        if (task, readout) not in self._stand_ins:
            items = self.data.items(task)
            own = self.smart.with_readout(readout)
            encode = own.encode_document if task == "document" else own.encode_query
            bare = [items[item] for item in self._kept(task, readout.token_filter).bare.tolist()]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SmartWarning)
                self._stand_ins[task, readout] = encode(bare, batch_size=self._batch_size, show_progress=False)
        return self._stand_ins[task, readout]

    def statistics(self, readout: Readout) -> CollectionStatistics:
        """IDF weights and calibration of these documents under a readout."""
        if readout not in self._statistics:

            def read(places: Array) -> SmartEmbeddings:
                return SmartEmbeddings.concatenate(
                    self._read("document", readout, slice(place, place + 1)) for place in places.tolist()
                )

            calibrator = self.smart.with_readout(readout).calibrator
            self._statistics[readout] = CollectionStatistics(
                lambda: self._idf(readout),
                lambda: calibrator.calibrate(len(self.documents), read, lambda: self._idf(readout)),
            )
        return self._statistics[readout]

    def _idf(self, readout: Readout) -> IdfWeights:
        """IDF weights of these documents' tokens, which depend on the token filter alone."""
        if readout.token_filter not in self._idf_weights:
            kept = self._kept("document", readout.token_filter)
            ids = self.documents.token_ids[kept.rows]
            # Counting documents reads no vectors.
            no_vectors = np.zeros((len(ids), 0), np.float32)
            counted = SmartEmbeddings(self.documents.anchors, no_vectors, kept.offsets, ids)
            self._idf_weights[readout.token_filter] = IdfWeights.fit(counted)
        return self._idf_weights[readout.token_filter]


class KeptRows(NamedTuple):
    """The token rows that a filter keeps, ascending.

    Of the bare items, of which ``"paper"`` keeps nothing, the first row; under ``"content"`` such items have no tokens.
    """

    rows: Array
    offsets: Array  # [N + 1]
    bare: Array

    @classmethod
    def of(cls, encoded: SmartEmbeddings, token_filter: str) -> KeptRows:
        """Choose rows by their roles. Special tokens are there only where they stand in for an empty item."""
        chosen = TokenFilter.parse(token_filter)
        kept = chosen.rows(encoded.roles, encoded.offsets)
        filled = np.diff(np.concatenate([[0], np.cumsum(kept)])[encoded.offsets]) > 0
        bare = np.flatnonzero(~filled & (encoded.lengths > 0) & (chosen.base == "paper"))
        kept[encoded.offsets[bare]] = True
        return cls(np.flatnonzero(kept), np.concatenate([[0], np.cumsum(kept)])[encoded.offsets], bare)


def system_scoring(scoring: Scoring, system: Literal["anchor", "late", "hybrid"]) -> Scoring:
    """The scoring that ranks by one system alone: by the anchor, by the late score, or by their weighted sum."""
    if system == "anchor":
        return Scoring(lambda_late=0.0)
    return scoring if system == "hybrid" else scoring.override(lambda_anchor=0.0, lambda_late=1.0)


def spread(states: int, own: Sequence[int]) -> tuple[int, ...]:
    """All layers, or as many as are kept of them: evenly spread, with the last three and a readout's own."""
    if states <= MOST_LAYERS:
        return tuple(range(states))
    even = np.linspace(0, states - 4, MOST_LAYERS - 3).round().astype(int).tolist()
    return tuple(sorted({*even, *range(states - 3, states), *own}))


def mix_layers(layers: Sequence[Array], mix: str) -> Array:
    """Token vectors out of one ``[rows, H]`` of unit length for each layer, as the token head mixes them."""
    if len(layers) == 1:
        return layers[0]
    if mix == "concat":
        return np.concatenate(layers, axis=1) / np.float32(np.sqrt(len(layers)))
    return unit_rows(reduce(np.add, layers))


def with_named_weights(setting: Preset) -> Preset:
    """The setting, refused where its weights have no name: numbers would fit the tokens of one readout alone."""
    if not isinstance(setting.scoring.weights, str):
        raise ScoringError(f"token weights: found custom ones in a setting, expected one of {', '.join(TOKEN_WEIGHTS)}")
    return setting


def _late_part(scoring: Scoring) -> Scoring:
    """What the late score depends on: weights and floor."""
    return Scoring(scoring.weights, floor=scoring.floor)
