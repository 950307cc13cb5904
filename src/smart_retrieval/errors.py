"""Every error the library raises on purpose.

Each message says what was found, what was expected and what to do about it. The CLI prints it in one line and exits
with status 1.
"""

from __future__ import annotations

from collections.abc import Iterable


class SmartError(Exception):
    """Base of every named error of this library.

    Example:
        >>> try:
        ...     raise EmptyInputError("found no texts")
        ... except SmartError as error:
        ...     print(error)
        found no texts
    """


class MissingExtraError(SmartError, ImportError):
    """An optional dependency is not installed; the message holds the exact ``pip install`` line."""


class ModelNotFoundError(SmartError):
    """There is no model of this name or path: neither a folder nor a model that can be fetched."""


class UnsupportedModelError(SmartError):
    """The model has no token states to keep (a CLIP-style model, for one), or its parts do not fit together."""


class ModelServerError(SmartError):
    """A model server cannot be reached, answers with an error, or serves something else than the model named."""


class ReadoutError(SmartError, ValueError):
    """A readout does not fit the model: a layer out of range, an unknown filter, a wrong file."""


class AdapterMismatchError(SmartError):
    """An adapter is used with another backbone, or other layers, than it was trained on."""


class TrainingError(SmartError):
    """Training cannot start or continue: no examples, a loss that is not a number, another run's checkpoint."""


class NonFiniteError(SmartError):
    """An encoding contains NaN or infinity."""


class EmptyInputError(SmartError, ValueError):
    """No input where at least one item is needed, or an input of an unknown kind."""


class EmbeddingsError(SmartError, ValueError):
    """Embeddings do not fit together or cannot be read: widths or lengths that differ, a damaged file."""


class ScoringError(SmartError, ValueError):
    """A score cannot be computed from these arguments: widths that differ, weights of the wrong length."""


class DatasetError(SmartError):
    """An evaluation folder is missing, malformed (the message names file and line) or empty."""


class ReportError(SmartError):
    """A file is not a result that can be reported, or results cannot be compared."""


class MediaError(SmartError):
    """A file cannot be read as what it claims to be; the message names the file and the reason."""


class CodecError(SmartError, ValueError):
    """Token vectors cannot be encoded or decoded: an unknown codec, another width, damaged bytes."""


class CodecMissingError(CodecError):
    """An index names a codec by its hash that this version of the package does not ship."""


class IndexFormatError(SmartError):
    """The folder contains no index, or one of a format this version does not read."""


class IndexMismatchError(SmartError):
    """An index was made with another model, readout or codec than the one it is used with."""


class IndexDamagedError(SmartError):
    """Stored bytes do not match their checksum."""


class IndexBusyError(SmartError):
    """Another process held the index's write lock for longer than the timeout."""


class IndexFullError(SmartError):
    """The disk is full; documents stored before are intact."""


class IndexReadOnlyError(SmartError):
    """The index's folder or file cannot be written to, or not even be opened; ``mode="r"`` may still read it."""


class StoreError(SmartError):
    """A database server cannot be reached, refuses something, or holds no such index."""


class StoreUnreachableError(StoreError):
    """A database server does not answer, or ended the connection; the same call may succeed later."""


class FilterError(SmartError, ValueError):
    """A ``where`` expression cannot be parsed; the message shows the position."""


class DuplicateIdError(SmartError, ValueError):
    """A document with this id is in the index already."""


class UnknownIdError(SmartError, KeyError):
    """An id is not in the index."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the message in quotes


class EncodingRunError(SmartError):
    """An encoding run cannot go on: a stage has stalled or ended, or its folder belongs to another run."""


class ServerError(SmartError):
    """A server cannot be started as it is asked to: tokens, hosts or names of indexes that do not fit."""


class NotAllowedError(SmartError):
    """The caller's token does not allow this: it only reads, or the document is somebody else's."""


class UnknownIndexError(SmartError, KeyError):
    """The server has no index of this name, or no job of this number."""

    __str__ = UnknownIdError.__str__


class OverloadedError(SmartError):
    """A server has as many requests waiting as it takes; try again a little later."""


class DeadlineError(SmartError, TimeoutError):
    """The time that a request allows was over before its search began."""


class SmartWarning(UserWarning):
    """Input was skipped or cut off, with counts: texts beyond the model's limit, empty texts, unknown ids."""


def one_of(found: object, allowed: Iterable[str]) -> str:
    """Phrase an unknown choice for an error message.

    Example:
        >>> one_of("papper", ["paper", "content"])
        "found 'papper', expected one of 'content', 'paper'"
    """
    return f"found {found!r}, expected one of {', '.join(repr(name) for name in sorted(allowed))}"
