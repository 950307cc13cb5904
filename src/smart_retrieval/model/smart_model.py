"""SmartModel: a single-vector model that gives its token vectors beside its embedding."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Sized
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from ..backbones.checkpoints import COMPUTES, DEFAULT_MODEL, LoadOptions, settled_name, split_server
from ..backbones.compute import Compute
from ..backbones.registry import open_backbone
from ..core.calibration import Calibration
from ..core.collection import Calibrator
from ..core.hybrid import hybrid_scores
from ..core.packing import AnchorPacker
from ..core.presets import get_preset
from ..core.readout import Readout
from ..core.scoring import LateWeight, Scoring, TokenWeights
from ..core.vectors import expect_embeddings
from ..embeddings import SmartEmbeddings
from ..errors import (
    AdapterMismatchError,
    EmptyInputError,
    ModelNotFoundError,
    ReadoutError,
    SmartError,
    UnsupportedModelError,
    one_of,
)  # fmt: skip
from ..inputs import is_one_item, item_of
from ..progress import progress
from ..types import Array
from .batching import BatchLimits
from .calibrations import packaged_calibration
from .encoding import Encoder, at_least_one, gathered
from .options import ModelOptions
from .pickling import loaded_again, pickled_options
from .properties import ModelProperties
from .saving import check_layers, read_adapter_folder, read_saved, write_adapter, write_saved
from .vocabulary import vocabulary_queries

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

    from ..core.adapter import Adapter

DTYPES = ("float32", "float16")


class SmartModel(ModelProperties):
    """A hybrid single- and multi-vector encoder built on an untouched Sentence Transformers model.

    One forward pass gives each input's anchor, the embedding the model has always given, and a vector for each of its
    tokens. Nothing is trained (arXiv 2605.24938), unless the folder brings an adapter along.

    Args:
        model_name_or_path: ``"minilm"`` (packaged, needs no network), a folder, or a hub name; either of these with
            ``@http://HOST:PORT`` behind it takes its token states from a vLLM or llama.cpp server. A folder written by
            :meth:`save_pretrained` brings its readout along; one written by :meth:`save_adapter` holds an adapter
            and names the model it was trained on.
        readout: Layers, mix and token filter; the saved one or the preset's when None.
        preset: ``"default"`` or ``"paper"``; sets the readout and the weights of :meth:`similarity`. The default of a
            saved folder is what it was saved with: trained, tuned, or set.
        device: Torch device; the best at hand when None.
        revision: Hub revision.
        max_length: Longest input in tokens; the model's own when None.
        prompts: Prompts by name (``"query"``, ``"document"``), over the model's own.
        dtype: ``"float32"`` or ``"float16"``, of the token vectors handed out.
        compute: What the transformer computes in: ``"float32"``, the model's own anchors bit for bit; ``"bfloat16"``,
            two to three times as fast on a processor with units for it, similarities then differ by .001 in the mean;
            ``"auto"`` for the faster of the two on this processor, queries in float32. What the folder was saved with,
            or float32, when None. Vectors handed out are of ``dtype`` in any case, and pooling is computed in float32.
        family: The model family, for a checkpoint not known by its name or files; ``"sentence-transformers"`` for a
            text model without the prompts that its name tells of.
        pooling: ``"lasttoken"`` or ``"mean"``, for a vision-language model that was not trained to embed; also
            ``"cls"`` for a text model whose files do not say how it is pooled.
        max_visual_tokens: Most visual tokens of one picture, page or frame; the family's when None.
        max_frames: Most frames of a video; the family's when None.
        video_budget: What all frames of a video share, for Qwen3-VL-Embedding: ``"usual"`` (15,000 visual tokens, as in
            its report) or ``"official"`` (7.86 megapixels, as in its code); None takes that of the preset.
        truncate_dim: Keep so many of the anchor's first dimensions, for models trained for it (Matryoshka); the
            checkpoint's own when None. Token vectors keep their width.
        backbone: The model that an adapter folder belongs to, if not the one the folder names.
        cache_folder: Where models from the hub are kept; the hub's usual cache when None.
        token: The hub's access token, for private models.
        local_files_only: Never contact the hub; when None, it is contacted for models that are not a folder.
        model_kwargs: Passed to the model's ``from_pretrained`` in ``transformers``.
        processor_kwargs: The same for the tokenizer or processor; for text models only.
        config_kwargs: The same for the configuration; for text models only.
        trust_remote_code: Only False is accepted: code from a hub is never run.

    Raises:
        ModelNotFoundError: Nothing loadable under this name.
        UnsupportedModelError: The model has no token states.
        ModelServerError: A server does not answer, or serves something else.
        ReadoutError: The readout does not fit the model.
        AdapterMismatchError: The adapter was trained on another model, or on other layers.

    Example:
        >>> model = SmartModel("minilm")
        >>> documents = model.encode_document(["Otters sleep afloat.", "Tax is due in May."])
        >>> queries = model.encode_query(["sea animals"])
        >>> model.similarity(queries, documents).argmax()
        0
    """

    _calibration: Calibration | None = None
    _anchor_layer: int | tuple[int, ...] | None = None  # see with_anchor_of

    def __init__(
        self,
        model_name_or_path: str | Path = DEFAULT_MODEL,
        *,
        readout: Readout | None = None,
        preset: str = "default",
        device: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        prompts: dict[str, str] | None = None,
        dtype: str = "float32",
        compute: str | None = None,
        family: str | None = None,
        pooling: str | None = None,
        max_visual_tokens: int | None = None,
        max_frames: int | None = None,
        video_budget: str | None = None,
        truncate_dim: int | None = None,
        backbone: str | Path | None = None,
        cache_folder: str | None = None,
        token: bool | str | None = None,
        local_files_only: bool | None = None,
        model_kwargs: dict[str, Any] | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if trust_remote_code:
            raise UnsupportedModelError("found trust_remote_code=True, expected False: code from a hub is never run")
        chosen = get_preset(preset)  # an unknown one fails before the model loads
        if dtype not in DTYPES:
            raise ReadoutError(f"dtype: {one_of(dtype, DTYPES)}")
        if compute is not None and compute not in COMPUTES:
            raise ReadoutError(f"compute: {one_of(compute, COMPUTES)}")
        self.name = settled_name(model_name_or_path)
        self.loaded_at = time.time()  # files that are written later may be those of another model
        backbone = None if backbone is None else settled_name(backbone)
        saved = read_adapter_folder(self.name)
        options = LoadOptions(
            family=family, pooling=pooling, max_length=max_length, prompts=prompts, max_visual_tokens=max_visual_tokens,
            max_frames=max_frames, video_budget=video_budget, truncate_dim=truncate_dim,
            as_published=preset == "paper", device=device, revision=revision, cache_folder=cache_folder, token=token,
            local_files_only=local_files_only, model_kwargs=model_kwargs, processor_kwargs=processor_kwargs,
            config_kwargs=config_kwargs,
        )  # fmt: skip
        self._made_with = (type(self), self.name, pickled_options(options, preset, dtype, backbone))
        if saved is not None:
            options = saved.as_trained(options)
        elif backbone is not None:
            raise ReadoutError(f"model {self.name!r}: found backbone={str(backbone)!r} beside it, expected an adapter")
        source = self.name if saved is None else backbone or saved.backbone.get("name", "")
        if saved is not None and backbone is None and split_server(source) is not None:
            raise ModelNotFoundError(
                f"adapter {self.name!r}: it was trained on {source!r}; a file does not decide which server is asked: "
                "name it yourself, backbone=NAME@URL"
            )
        self.backbone = open_backbone(source, options)
        self._weights = self.backbone.weights_fingerprint()
        if saved is None:
            saved = read_saved(Path(self.backbone.source))
        else:
            saved.check_backbone(str(source), self.backbone.fingerprint)
        chosen = self.backbone.preset(chosen) if saved is None else saved.preset(chosen)
        self.readout = readout or (saved.readout if saved is not None else chosen.readout)
        self.preset = chosen.reading(self.readout)
        adapter = None
        if saved is not None and saved.readout == self.readout:
            self._calibration = saved.calibration
        if saved is not None and saved.adapter is not None:
            check_layers(self.readout, saved.readout)
            adapter = saved.load_adapter()
        asked = compute or (saved.compute if saved is not None else "float32")
        self.computing = Compute.settled(self.backbone, asked)
        self._encoder = self._make_encoder(adapter, dtype)

    def _make_encoder(self, adapter: Adapter | None, dtype: str) -> Encoder:
        """The backbone with a token head of this model's readout."""
        self.readout.resolve_layers(self.backbone.n_states)
        if not self.readout.reads_last_state_only or self._anchor_layer is not None:
            self.backbone.emit_hidden_states()
        if adapter is not None:
            adapter = adapter.to(self.backbone.model.device)
        head = self.backbone.token_head(self.readout, adapter)
        encoder = Encoder(self.backbone, head, dtype, self._anchor_layer, self.computing.name, self.computing.queries)
        if adapter is not None and adapter.config.hidden_size != encoder.state_dim:
            raise AdapterMismatchError(
                f"model {self.name!r}: found states of {encoder.state_dim} dimensions, expected the "
                f"{adapter.config.hidden_size} of the adapter"
            )
        return encoder

    @classmethod
    def from_pretrained(cls, model_name_or_path: str | Path, **options: Unpack[ModelOptions]) -> SmartModel:
        """The same as calling the class, for those who look for this name."""
        return cls(model_name_or_path, **options)

    def with_readout(self, readout: Readout) -> SmartModel:
        """The same loaded backbone, read in another way; an adapter stays.

        Args:
            readout: Layers, mix and token filter.

        Raises:
            ReadoutError: The readout does not fit the model.
            AdapterMismatchError: There is an adapter, and it was trained on other layers.
        """
        if self.adapter is not None:
            check_layers(readout, self.readout)
        return self._with(readout, self.adapter)

    def with_compute(self, compute: str) -> SmartModel:
        """The same loaded backbone, computing in another precision; its weights stay float32 and are saved as such.

        Args:
            compute: ``"auto"``, ``"float32"`` or ``"bfloat16"``, as :class:`SmartModel` takes it.

        Raises:
            UnsupportedModelError: The model does not run in bfloat16.
        """
        clone = self.__copy__()
        clone.computing = Compute.settled(self.backbone, compute)
        return clone._with(self.readout, self.adapter)

    def with_anchor_of(self, *layers: int) -> SmartModel:
        """The same loaded backbone, with anchors pooled from another hidden state, to measure what that costs.

        Neither :meth:`save_pretrained` nor an index keeps the choice.

        Args:
            layers: The hidden state, as :class:`Readout` counts them. Anchors of several stand side by side in one
                vector, in ascending order: each is `anchor_dim` / number of layers wide, and compared on its own.

        Raises:
            ReadoutError: There is no such hidden state.
        """
        resolved = Readout(layers).resolve_layers(self.backbone.n_states)
        clone = copy.copy(self)
        own = resolved == (self.backbone.n_states - 1,)
        clone._anchor_layer = None if own else resolved[0] if len(resolved) == 1 else resolved
        if clone._anchor_layer is not None:
            clone._calibration = None
        return clone._with(self.readout, self.adapter)

    def with_adapter(
        self, adapter: Adapter | None, readout: Readout | None = None, *, scoring: Scoring | None = None
    ) -> SmartModel:
        """The same loaded backbone with an adapter over its states, or with none.

        Args:
            adapter: The adapter; None for the frozen readout.
            readout: Which states it reads; this model's when None.
            scoring: What it scores with; this model's when None, without a floor if the adapter is another, since a
                floor is chosen for certain states.

        Raises:
            ReadoutError: The readout does not fit the model.
            AdapterMismatchError: The adapter is for states of another width or another number of layers.
        """
        readout = readout or self.readout
        if adapter is not None and adapter.config.layers != len(readout.layers):
            raise AdapterMismatchError(
                f"found an adapter for {adapter.config.layers} layers, expected one for layers {list(readout.layers)}"
            )
        clone = self._with(readout, adapter)
        if scoring is None:
            scoring = clone.preset.scoring if adapter is self.adapter else clone.preset.scoring.for_other_states()
        clone.preset = replace(clone.preset, scoring=scoring)
        return clone

    def _with(self, readout: Readout, adapter: Adapter | None) -> SmartModel:
        clone = self.__copy__()
        for cached in ("encoder", "calibrator", "_probes"):
            clone.__dict__.pop(cached, None)
        clone.readout = readout
        clone.preset = self.preset.reading(readout)
        if readout != self.readout or adapter is not self.adapter:
            clone._calibration = None
        clone._encoder = clone._make_encoder(adapter, self.dtype)
        return clone

    def __copy__(self) -> SmartModel:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, it is its name and arguments, its readout, its settings and its adapter: the weights load again."""
        if self.backbone.weights_fingerprint() != self._weights:
            raise SmartError(
                f"model {self.name!r}: found weights that were changed since it was loaded, which a pickle by name "
                "would lose: save_pretrained(folder), and open and pickle SmartModel(folder)"
            )
        adapter = None if self.adapter is None else copy.deepcopy(self.adapter).cpu()
        state = self.readout, self.preset, self._calibration, adapter, self._anchor_layer, self.computing.asked
        return loaded_again, (*self._made_with, self._weights, state)

    # -- what it is --------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """JSON-able: what must be equal for two encodings to be comparable (weights, readout, prompts, length)."""
        identity = {**self.backbone.identity(), "name": self.name}
        if self.adapter is not None:
            both = f"{identity['fingerprint']} {self.adapter.fingerprint}"
            identity["fingerprint"] = hashlib.sha256(both.encode()).hexdigest()[:16]
            identity["adapter"] = self.adapter.fingerprint
        if self._anchor_layer is not None:
            layer = self._anchor_layer
            identity["anchor_layer"] = layer if isinstance(layer, int) else [*layer]
        if self.computing.name != "float32":
            identity["compute"] = self.computing.name
        return {**identity, "readout": self.readout.to_dict(), "prompts": self.prompts}

    def __repr__(self) -> str:
        return f"SmartModel({self.name!r}, {self.readout})"

    # -- encoding ----------------------------------------------------------------------------------------------

    def encode_query(
        self,
        items: Any,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        show_progress: bool | None = None,
        out: str | Path | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> SmartEmbeddings:
        """Encode queries, with the model's query prompt.

        Args:
            items: One item or many; an iterator is read as it is needed. An item is a string (always text), a picture,
                a :class:`~pathlib.Path` of a picture or video, or a dict with some of ``text``, ``image``, ``video``
                and ``instruction``, or an :class:`~smart_retrieval.Item`.
            prompt: A prompt's text, over the model's own; ``""`` for none.
            prompt_name: The name of one of the model's prompts.
            batch_size: Most items in one forward pass; batches are also bounded by padded tokens.
            show_progress: Draw a bar on stderr; None draws it on a terminal.
            out: A folder to stream into. Memory then does not grow with the number of items, and what is returned is
                memory-mapped from there.
            on_error: ``"skip"`` drops items whose files cannot be read and lists them in ``report.failures``.

        Returns:
            Anchors ``[N, Da]`` float32, token vectors ``[sum T_i, Dt]``, in the order of the items; N = 1 for one item.

        Raises:
            EmptyInputError: No item, or one of no known kind.
            UnsupportedModelError: The model takes no input of this kind.
            MediaError: A picture or video cannot be read.
            NonFiniteError: The model gave NaN or infinity.

        Warns:
            SmartWarning: Texts were longer than the model's limit, had no content, or were skipped; with counts.

        Example:
            >>> SmartModel("minilm").encode_query("sea animals").token_strings(0)
            ['sea', 'animals']
        """
        if self.purpose is not None:
            items = [items] if is_one_item(items) else list(items)
            self.purpose.warn(self.name, (item_of(item).text for item in items))
        return self._encode("query", items, prompt, prompt_name, batch_size, show_progress, out, on_error)

    def encode_document(
        self,
        items: Any,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        show_progress: bool | None = None,
        out: str | Path | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> SmartEmbeddings:
        """Encode documents, with the model's document (or passage, or corpus) prompt; else as :meth:`encode_query`."""
        return self._encode("document", items, prompt, prompt_name, batch_size, show_progress, out, on_error)

    def _encode(
        self,
        task: str,
        values: Any,
        prompt: str | None,
        prompt_name: str | None,
        batch_size: int | None,
        show_progress: bool | None,
        out: str | Path | None,
        on_error: str,
    ) -> SmartEmbeddings:
        values = [values] if is_one_item(values) else values
        total = len(values) if isinstance(values, Sized) else None
        if batch_size is not None and batch_size < 1:
            raise EmptyInputError(f"batch_size: found {batch_size}, expected at least 1")
        if on_error not in ("raise", "skip"):
            raise EmptyInputError(f"on_error: {one_of(on_error, ('raise', 'skip'))}")
        limits = BatchLimits() if batch_size is None else BatchLimits(batch_size=batch_size)
        text = self.backbone.prompt_for(task, prompt, prompt_name)
        noun = "queries" if task == "query" else "documents"
        with progress(f"Encoding {noun}", total, show_progress) as advance:
            stream = self._encoder.windows(
                at_least_one(values, task), task=task, prompt=text, limits=limits, advance=advance, on_error=on_error
            )
            embeddings = gathered(stream, out)
        embeddings.tokenizer = self.tokenizer
        embeddings.report.warn(noun, self.max_length)
        return embeddings

    # -- scoring -----------------------------------------------------------------------------------------------

    def similarity(
        self,
        queries: SmartEmbeddings,
        documents: SmartEmbeddings,
        *,
        scoring: Scoring | None = None,
        weights: TokenWeights | Literal["preset"] = "preset",
        lambda_anchor: float | None = None,
        lambda_late: LateWeight | None = None,
        floor: float | Literal["preset", "calibrated"] | None = "preset",
    ) -> Array:
        """Hybrid scores of every query against every document, which are taken as the whole collection.

        An index of the same documents gives the same scores, but for compatibility forms of characters (full width),
        which it folds.

        Args:
            queries: Nq encoded queries.
            documents: Nd encoded documents.
            scoring: Lambdas, weights and floor; the preset's when None. The arguments below replace its fields.
            weights: Query-token weights: ``"idf"`` counts these documents, an :class:`~smart_retrieval.IdfWeights`
                those it was fitted on; None or ``"uniform"`` for equal ones.
            lambda_anchor: Weight of the anchors' cosine.
            lambda_late: Weight of the mean MaxSim.
            floor: Token similarities that count as none; None for no floor.

        Returns:
            ``[Nq, Nd]`` float32.

        Raises:
            ScoringError: Something else is given, or the embeddings' widths differ.
        """
        expect_embeddings(queries, documents)
        chosen = (scoring or self.preset.scoring).override(
            weights=weights, lambda_anchor=lambda_anchor, lambda_late=lambda_late, floor=floor
        )
        chosen = chosen.fitted(self.calibrator.statistics(documents))
        return hybrid_scores(
            queries,
            documents,
            weights=chosen.query_weights,
            lambda_anchor=chosen.lambda_anchor,
            lambda_late=chosen.late_weight,
            floor=chosen.late_floor,
        )

    @property
    def calibration(self) -> Calibration | None:
        """What collections that are too small for a calibration of their own are scored with; None where unknown.

        Packaged models bring theirs along, a folder of :meth:`save_pretrained` what the model had, and
        :meth:`calibrate` measures it.
        """
        if self._calibration is None and self.adapter is None:
            return packaged_calibration(self.backbone, self.readout)
        return self._calibration

    def calibrate(self, documents: SmartEmbeddings) -> Calibration:
        """Measure the model on documents like those it will search, and keep that as its :attr:`calibration`.

        Args:
            documents: Encoded by this model; a few hundred are enough.

        Returns:
            The calibration.

        Example:
            >>> model = SmartModel("minilm")
            >>> model.calibrate(model.encode_document(["Otters sleep afloat.", "Tax is due in May."])).documents
            2
        """
        self._calibration = Calibrator(None, lambda: self._probes).statistics(documents).calibration
        self.__dict__.pop("calibrator", None)
        return self._calibration

    @cached_property
    def calibrator(self) -> Calibrator:
        """Calibrates collections that this model encoded."""
        return Calibrator(self.calibration, lambda: self._probes)

    @cached_property
    def _probes(self) -> SmartEmbeddings:
        return self._encode("query", vocabulary_queries(self.tokenizer), None, None, None, False, None, "raise")

    # -- Sentence Transformers and disk ------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> MultiVectorEncoder:
        """A stock ``MultiVectorEncoder`` over the same modules, whose matrices carry the anchor as first rows.

        For Sentence Transformers' losses, trainer and evaluators.
        """
        return self.backbone.as_multi_vector_encoder(self.head, AnchorPacker())  # type: ignore[no-untyped-call]

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder that plain ``SentenceTransformer`` opens with an identical anchor, and ``SmartModel`` whole.

        The root is the untouched checkpoint; ``smart/`` beside it holds readout, scoring, and any adapter. Models of
        the families GME, LamRA, VLM2Vec-V2 and jina-v4 open in ``SmartModel`` only, which knows their recipes.

        Args:
            path: The folder.
        """
        folder = Path(path)
        self.backbone.save(folder)
        write_saved(
            folder, self.readout, self.backbone.identity(), self.adapter,
            scoring=self.preset.scoring, calibration=self.calibration, compute=self.computing.asked,
        )  # fmt: skip

    def save_adapter(self, path: str | Path) -> None:
        """Write the adapter alone: a folder of a few MB that names its backbone, which ``SmartModel`` loads with it.

        Args:
            path: The folder; it must not hold a checkpoint.

        Raises:
            ReadoutError: There is no adapter, or a checkpoint lies in the folder.
        """
        if self.adapter is None:
            raise ReadoutError(f"model {self.name!r}: found no adapter to save; train one, or use save_pretrained")
        write_adapter(
            Path(path), self.readout, self.backbone.identity(), Path(self.backbone.source), self.adapter, self.prompts,
            self.preset.scoring, self.calibration, self.computing.asked,
        )  # fmt: skip
