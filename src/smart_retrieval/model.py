"""SmartModel: a single-vector model that hands out its token vectors beside its embedding."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sized
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .backbones.naming import DEFAULT_MODEL
from .backbones.registry import open_backbone
from .batching import BatchLimits
from .embeddings import SmartEmbeddings
from .embeddings_files import EmbeddingsWriter
from .encoding import Encoder
from .encoding_report import EncodingReport
from .errors import EmptyInputError, ReadoutError, SmartWarning, one_of
from .inputs import is_one_item
from .progress import progress
from .readout import Readout
from .readout.head import TokenHead
from .readout.packing import AnchorPacker
from .scoring import hybrid_scores
from .scoring.presets import get_preset, preset_for

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import MultiVectorEncoder

    from .scoring import QueryWeights

SMART_FOLDER = "smart"
SMART_FORMAT = "smart-model/1"
DTYPES = ("float32", "float16")


class SmartModel:
    """A hybrid single- and multi-vector encoder built on an untouched Sentence Transformers model.

    One forward pass gives each input's anchor, the embedding the model has always given, and a vector for each of its
    tokens. Nothing is trained (arXiv 2605.24938).

    Args:
        model_name_or_path: ``"minilm"`` (packaged, needs no network), a folder, or a hub name. A folder written by
            :meth:`save_pretrained` brings its readout along.
        readout: Layers, mix and token filter; the saved one or the preset's when None.
        preset: ``"default"`` or ``"paper"``; sets the readout and the weights of :meth:`similarity`.
        device: Torch device; the best at hand when None.
        revision: Hub revision.
        max_length: Longest input in tokens; the model's own when None.
        prompts: Prompts by name (``"query"``, ``"document"``), over the model's own.
        dtype: ``"float32"`` or ``"float16"``, of the token vectors handed out.
        family: The model family, for a checkpoint that is not known by its name or files: one of
            :data:`~smart_retrieval.backbones.registry.FAMILIES`.
        pooling: ``"lasttoken"`` or ``"mean"``, for a vision-language model that nobody trained to embed.
        max_visual_tokens: Most visual tokens of one picture, page or frame; the family's when None.
        max_frames: Most frames of a video; the family's when None.
        **kwargs: ``cache_folder``, ``token``, ``local_files_only``, ``model_kwargs``, ``processor_kwargs``,
            ``config_kwargs``, as ``SentenceTransformer`` takes them.

    Raises:
        ModelNotFoundError: Nothing loadable under this name.
        UnsupportedModelError: The model has no token states.
        ReadoutError: The readout does not fit the model.

    Example:
        >>> model = SmartModel("minilm")
        >>> documents = model.encode_document(["Otters sleep afloat.", "Tax is due in May."])
        >>> queries = model.encode_query(["sea animals"])
        >>> model.similarity(queries, documents).argmax()
        0
    """

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
        family: str | None = None,
        pooling: str | None = None,
        max_visual_tokens: int | None = None,
        max_frames: int | None = None,
        **kwargs: Any,
    ) -> None:
        get_preset(preset)  # an unknown one fails before the model loads
        if dtype not in DTYPES:
            raise ReadoutError(f"dtype: {one_of(dtype, DTYPES)}")
        self.backbone = open_backbone(
            model_name_or_path,
            family=family,
            pooling=pooling,
            max_visual_tokens=max_visual_tokens,
            max_frames=max_frames,
            device=device,
            revision=revision,
            max_length=max_length,
            prompts=prompts,
            **kwargs,
        )
        chosen = preset_for(preset, pooling=self.backbone.pooling, n_states=self.backbone.n_states)
        self.readout = readout or _saved_readout(Path(self.backbone.source)) or chosen.readout
        self.preset = chosen.reading(self.readout)
        self.readout.resolve_layers(self.backbone.n_states)
        if not self.readout.reads_last_state_only:
            self.backbone.emit_hidden_states()
        head = TokenHead(self.readout, self.backbone.roles_without_prompt)
        self._encoder = Encoder(self.backbone, head, dtype)

    @classmethod
    def from_pretrained(cls, model_name_or_path: str | Path, **kwargs: Any) -> SmartModel:
        """The same as calling the class, for those who look for this name."""
        return cls(model_name_or_path, **kwargs)

    def with_readout(self, readout: Readout) -> SmartModel:
        """The same loaded backbone, read in another way.

        Args:
            readout: Layers, mix and token filter.

        Raises:
            ReadoutError: The readout does not fit the model.
        """
        readout.resolve_layers(self.backbone.n_states)
        if not readout.reads_last_state_only:
            self.backbone.emit_hidden_states()
        clone = copy.copy(self)
        clone.__dict__.pop("encoder", None)
        clone.readout = readout
        clone.preset = self.preset.reading(readout)
        clone._encoder = Encoder(self.backbone, TokenHead(readout, self.backbone.roles_without_prompt), self.dtype)
        return clone

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def anchor_dim(self) -> int:
        """Width of an anchor."""
        return self.backbone.anchor_dim

    @property
    def token_dim(self) -> int:
        """Width of a token vector."""
        width = self.backbone.output_size if self.readout.reads_last_state_only else self.backbone.hidden_size
        return self.readout.width(width)

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens; what is longer is cut off and counted."""
        return self.backbone.max_length

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name; empty ones are left out."""
        return self.backbone.prompts

    @property
    def modalities(self) -> frozenset[str]:
        """What it takes: ``"text"``, ``"image"``, ``"video"``."""
        return self.backbone.modalities

    @property
    def max_visual_tokens(self) -> int | None:
        """Most visual tokens of one picture, page or frame; None for a text model."""
        return self.backbone.max_visual_tokens

    @property
    def max_frames(self) -> int | None:
        """Most frames of a video; None where there is no recipe for video."""
        return self.backbone.max_frames

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.backbone.tokenizer

    @property
    def dtype(self) -> str:
        """NumPy dtype of the token vectors handed out."""
        return self._encoder.dtype

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self.backbone.model.device)

    def identity(self) -> dict[str, Any]:
        """JSON-able: what must be equal for two encodings to be comparable (weights, readout, prompts, length)."""
        return {**self.backbone.identity(), "readout": self.readout.to_dict(), "prompts": self.prompts}

    def __repr__(self) -> str:
        return f"SmartModel({self.backbone.name!r}, {self.readout})"

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
                and ``instruction``; see :func:`~smart_retrieval.inputs.item_of`.
            prompt: A prompt's text, over the model's own; ``""`` for none.
            prompt_name: The name of one of the model's prompts.
            batch_size: Most items in one forward pass; batches are also bounded by padded tokens.
            show_progress: Draw a bar on stderr; None draws it on a terminal.
            out: A folder to stream into. Memory then does not grow with the number of items, and what is returned is
                memory-mapped from there.
            on_error: ``"skip"`` leaves items out whose media cannot be read, and names them in ``report.failures``.

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
        items = [values] if is_one_item(values) else values
        total = len(items) if isinstance(items, Sized) else None
        if total == 0:
            raise EmptyInputError(f"found no {task} to encode, expected at least one text or picture")
        if on_error not in ("raise", "skip"):
            raise EmptyInputError(f"on_error: {one_of(on_error, ('raise', 'skip'))}")
        limits = BatchLimits() if batch_size is None else BatchLimits(batch_size=_positive(batch_size))
        text = self.backbone.prompt_for(task, prompt, prompt_name)
        noun = "queries" if task == "query" else "documents"
        with progress(f"Encoding {noun}", total, show_progress) as advance:
            stream = self._encoder.stream(
                items, task=task, prompt=text, limits=limits, advance=advance, on_error=on_error
            )
            if out is None:
                parts = list(stream)
                if not parts:
                    raise EmptyInputError(f"found no {task} to encode, expected at least one text or picture")
                embeddings = SmartEmbeddings._join(parts)
            else:
                with EmbeddingsWriter(out) as writer:
                    for window in stream:
                        writer.append(window)
                        del window  # else it would stay while the next one is encoded
                    if not writer.report.items and not writer.report.failures:
                        raise EmptyInputError(f"found no {task} to encode, expected at least one text or picture")
                embeddings = SmartEmbeddings.load(out, mmap=True)
                embeddings.tokenizer = self.tokenizer
        self._warn(embeddings.report, noun)
        return embeddings

    def _warn(self, report: EncodingReport, noun: str) -> None:
        if report.truncated:
            warnings.warn(
                f"{report.truncated} of {report.items} {noun} are longer than the model's {self.max_length} tokens: "
                f"{report.truncated_tokens} tokens at their ends were not encoded; split them, or raise max_length",
                SmartWarning,
                stacklevel=4,
            )
        if report.failures:
            first = report.failures[0]
            warnings.warn(
                f"{len(report.failures)} {noun} were skipped because they could not be read, the first of them item "
                f"{first.position}: {first.reason}",
                SmartWarning,
                stacklevel=4,
            )
        if report.empty:
            warnings.warn(
                f"{report.empty} of {report.items} {noun} have no content: nothing but their anchor and the prompt "
                "speaks for them",
                SmartWarning,
                stacklevel=4,
            )

    # -- scoring -----------------------------------------------------------------------------------------------

    def similarity(
        self,
        queries: SmartEmbeddings,
        documents: SmartEmbeddings,
        *,
        weights: QueryWeights = None,
        lambda_anchor: float | None = None,
        lambda_late: float | None = None,
        floor: float | Literal["preset"] | None = "preset",
    ) -> NDArray[Any]:
        """Hybrid scores of every query against every document.

        Args:
            queries: Nq encoded queries.
            documents: Nd encoded documents.
            weights: Query-token weights, an :class:`~smart_retrieval.IdfWeights` for one; uniform when None.
            lambda_anchor: Weight of the anchors' cosine; the preset's when None.
            lambda_late: Weight of the mean MaxSim; the preset's when None.
            floor: Token similarities that count as none, None for no floor; the preset's when left out.

        Returns:
            ``[Nq, Nd]`` float32.

        Raises:
            ScoringError: The embeddings' widths differ.
        """
        return hybrid_scores(
            queries,
            documents,
            lambda_anchor=self.preset.lambda_anchor if lambda_anchor is None else lambda_anchor,
            lambda_late=self.preset.lambda_late if lambda_late is None else lambda_late,
            weights=weights,
            floor=self.preset.floor if floor == "preset" else floor,
        )

    # -- Sentence Transformers and disk ------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> MultiVectorEncoder:
        """A stock ``MultiVectorEncoder`` over the same modules, whose matrices carry the anchor as first rows.

        For Sentence Transformers' losses, trainer and evaluators; see :mod:`smart_retrieval.readout.packing`.
        """
        return self.backbone.as_multi_vector_encoder(self._encoder.head, AnchorPacker())

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder that plain ``SentenceTransformer`` opens with an identical anchor, and ``SmartModel`` whole.

        The root is the untouched checkpoint; ``smart/config.json`` beside it holds the readout.

        Args:
            path: The folder.
        """
        folder = Path(path)
        self.backbone.save(folder)
        smart = folder / SMART_FOLDER
        smart.mkdir(parents=True, exist_ok=True)
        config = {"format": SMART_FORMAT, "readout": self.readout.to_dict(), "backbone": self.backbone.identity()}
        (smart / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _saved_readout(folder: Path) -> Readout | None:
    file = folder / SMART_FOLDER / "config.json"
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReadoutError(f"readout {str(file)!r}: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != SMART_FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ReadoutError(f"readout {str(file)!r}: found format {found!r}, expected {SMART_FORMAT!r}")
    if unknown := sorted(set(config) - {"format", "readout", "backbone"}):
        raise ReadoutError(f"readout {str(file)!r}: found unknown keys {unknown}; a newer version may have written it")
    if "readout" not in config:
        raise ReadoutError(f"readout {str(file)!r}: found no key 'readout'; save the model again")
    return Readout.from_dict(config["readout"])


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise EmptyInputError(f"batch_size: found {batch_size}, expected at least 1")
    return batch_size
