"""A file's passages as rows of the index, cut to what the index's model can see."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from ...documents.passages import Passage, split
from ...documents.read import ReadOptions, stream_file
from ...errors import SmartError
from ...files import FoundFile
from ..store.records import pack_metadata

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel
    from ..smart_index import SmartIndex

HEADING_SEPARATOR = " > "
# For models without a limit of their own.
_USUAL_LIMIT = 512
_SHORT = 32


@dataclass(frozen=True)
class PassageCutter:
    """How files become passages.

    Args:
        max_tokens: Most tokens of a passage, heading path, prompt and special tokens included.
        overlap: Tokens repeated from the passage before.
        min_tokens: Neighbouring sections shorter than this are joined.
        count_tokens: Length of a text as the model sees it.
    """

    max_tokens: int
    overlap: int
    min_tokens: int
    count_tokens: Callable[[str], int]

    @classmethod
    def for_index(
        cls, index: SmartIndex, max_tokens: int | None = None, overlap: int = 0, min_tokens: int | None = None
    ) -> PassageCutter:
        """The cutter of an index's passages; its model is loaded when the first text is cut.

        Args:
            index: The index: its model's limit, tokenizer and document prompt.
            max_tokens: The model's limit when None.
            overlap: See :func:`~smart_retrieval.documents.passages.split`.
            min_tokens: An eighth of ``max_tokens`` and at most 32 when None.

        Raises:
            SmartError: The limits contradict each other or the model's.
        """
        limit = index.store.manifest.limits.get("max_length")
        most = max_tokens or limit or _USUAL_LIMIT
        if limit is not None and most > limit:
            raise SmartError(f"max_tokens: found {most}, expected at most the model's {limit}: it sees no more")
        counters: list[Callable[[str], int]] = []

        def count(text: str) -> int:
            if not counters:
                counters.append(token_counter(index.model))
            return counters[0](text)

        cutter = cls(most, overlap, min(_SHORT, most // 8) if min_tokens is None else min_tokens, count)
        try:
            split([], **{**cutter._limits(), "count_tokens": len})
        except ValueError as error:
            raise SmartError(str(error)) from error
        return cutter

    def _limits(self) -> dict[str, Any]:
        return {
            "max_tokens": self.max_tokens,
            "overlap": self.overlap,
            "min_tokens": self.min_tokens,
            "count_tokens": self.count_tokens,
        }

    def rows(self, file: FoundFile, options: ReadOptions, notes: list[str]) -> Generator[dict[str, Any], None, None]:
        """The passages of one file, in order, read no further ahead than must be.

        Args:
            file: The file.
            options: How it is read.
            notes: Receives what its reader had to guess.

        Yields:
            Rows for :meth:`~smart_retrieval.index.smart_index.SmartIndex.add_encoded`. Their text is what the model
            sees, headings in a line of their own before the passage: so the words of headings can be found, shaded in
            explanations, and encoded again.

        Raises:
            MediaError: The file cannot be read (on).
            MissingExtraError: A package for its format is not installed.
            SmartError: Its metadata cannot be stored.
        """
        sections = stream_file(file.path, notes, options)
        first = next(sections, None)  # a broken file is found out before any model is loaded
        if first is None:
            return
        for passage in split(chain([first], sections), source=file.relative, **self._limits()):
            pack_metadata(passage.metadata, passage.id)  # here, where it costs one file and not a batch
            yield _row(passage)


def _row(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.id,
        "text": passage.text_for_encoding,
        "source": passage.source,
        "page": passage.page,
        "heading": HEADING_SEPARATOR.join(passage.heading) or None,
        "metadata": dict(passage.metadata),
    }


def passage_body(text: str, heading: str | None) -> tuple[int, str]:
    r"""The passage as it stands in its file, without the heading path that was put before it for the model.

    Args:
        text: A hit's text.
        heading: Its heading path.

    Returns:
        Where it begins in the text, and the passage.

    Example:
        >>> passage_body("Rotation\nUse logrotate.", "Logs > Rotation")
        (9, 'Use logrotate.')
    """
    prefix, newline, body = text.partition("\n")
    if heading and newline and body and heading.endswith(prefix):
        return len(text) - len(body), body
    return 0, text


def token_counter(model: SmartModel) -> Callable[[str], int]:
    """A function that counts a passage's tokens as the model sees them, prompt and special tokens included.

    Example:
        >>> token_counter(SmartModel("minilm"))("sea animals")  # doctest: +SKIP
        4
    """
    tokenizer = model.tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    prompt = model.backbone.prompt_for("document", None, None)
    around = model.backbone.token_count("a", prompt=prompt, task="document") - count("a")
    return lambda text: around + count(text)
