"""Exported models in the user's cache: found by what an index records of its model, and trusted by checksum only."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from ..._version import __version__
from ...backbones.checkpoints import local_folder
from ...checksums import file_identity
from ...core.roles import ROLES_FORMAT
from ...files import atomic_file, content_hash, user_cache
from .runtime import FILES, runtime_here, versions

_FORMAT = 2
TOKENIZER = "tokenizer.json"
_ABOUT = "entry.json"
_UNFINISHED = ".unfinished-"
_DAY = 86_400.0
_UNUSED = 30 * _DAY  # after which an entry makes room for one of its model
_MOST_FILES = 500  # of a model's folder
#: Values of the variable that switches the exported encoders off.
_OFF = ("0", "off", "no", "false")


def switched_off() -> bool:
    """Whether ``$SMART_LIGHT`` says that no exported model is to be made or used."""
    return os.environ.get("SMART_LIGHT", "").lower() in _OFF


class UntrustedEntryError(Exception):
    """An entry that is damaged, of another user, or of a model that was changed since."""


@dataclass(frozen=True)
class EntryKey:
    """Where the exported model for an index's queries lies.

    Args:
        name: The model's name.
        identity: What the index records of the model: fingerprint, pooling, limits, readout, prompts.
    """

    name: str
    identity: dict[str, Any]

    @property
    def model(self) -> str:
        """The same for every version and runtime that this model is exported with, under this readout."""
        return _digest([self.name, self.identity])

    def parts(self) -> dict[str, Any] | None:
        """Everything that the exported model depends on; None for a model of which no folder is at hand."""
        folder = local_folder(self.name, self.identity.get("revision"))
        if folder is None:
            return None
        runtime = runtime_here()
        return {
            "format": _FORMAT, "roles": ROLES_FORMAT, "smart_retrieval": __version__, "runtime": runtime,
            "versions": versions(runtime), "folder": str(folder), "model": self.identity,
        }  # fmt: skip

    def folder(self) -> Path | None:
        """The entry's folder, whether it is there or not."""
        parts = self.parts()
        if parts is None:
            return None
        return user_cache() / "encoders" / _digest(parts)


@dataclass(frozen=True)
class Entry:
    """An exported model that was checked.

    Args:
        about: Prompt, special ids and the like; ``refused`` says why there is no model.
        tokenizer: Its ``tokenizer.json``.
        exported: The model's files, open at their beginnings: the transformer, and what pools its states.
    """

    about: dict[str, Any]
    tokenizer: str = ""
    exported: tuple[BufferedReader, ...] = ()


def read_entry(folder: Path) -> Entry | None:
    """The entry in a folder; None where there is none.

    Raises:
        UntrustedEntryError: It is not what this user wrote, or not of the model as it is now.
    """
    try:
        if not _is_ours(folder):
            raise UntrustedEntryError("its folder belongs to, or can be written by, somebody else")
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if _digest(about["entry"]) != about["checksum"] or about["entry"]["key"] != folder.name:
            raise UntrustedEntryError("it does not match its checksum")
        entry: dict[str, Any] = about["entry"]
        _check_model(folder, entry, about["identities"])
        if "refused" in entry:
            return Entry(entry)
        with ExitStack() as opened:
            # Used as they were opened: another could be put in a file's place between a look at it and its use.
            names = (TOKENIZER, *FILES[entry["runtime"]])
            files = [opened.enter_context((folder / name).open("rb")) for name in names]
            if any(_sha256(file) != entry["files"][name] for name, file in zip(names, files, strict=True)):
                raise UntrustedEntryError("a file does not match its checksum")
            if time.time() - folder.stat().st_mtime > _DAY:
                with suppress(OSError):
                    os.utime(folder)  # it is in use
            found = Entry(entry, files[0].read().decode(), tuple(files[1:]))
            opened.pop_all()
            files[0].close()
            return found
    except FileNotFoundError as error:
        if not folder.exists():
            return None
        raise UntrustedEntryError(f"it lacks a file ({error.filename})") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedEntryError(f"it cannot be read ({type(error).__name__}: {error})") from error


def has_entry(folder: Path) -> bool:
    """Whether :func:`read_entry` finds one; raises what that does."""
    entry = read_entry(folder)
    for file in entry.exported if entry is not None else ():
        file.close()
    return entry is not None


def write_entry(
    folder: Path, model: str, model_folders: Iterable[Path], make: Callable[[Path], dict[str, Any]], before: float
) -> dict[str, Any]:
    """Make an entry aside and put it in its place; of two processes the first wins.

    Args:
        folder: The entry's.
        model: The same for all entries of one model and readout.
        model_folders: Where the model was loaded from.
        make: Writes tokenizer and model into a folder, and gives what is to be recorded.
        before: When the model was loaded: its files must not have been changed after that.

    Raises:
        OSError: The cache cannot be written to.
        UntrustedEntryError: The model's files were changed since it was loaded, or are too many.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
    try:
        files = {str(one): sorted(_files_of(one)) for one in model_folders}
        paths = [Path(root, name) for root, names in files.items() for name in names]
        if any(max(path.stat().st_mtime, path.stat().st_ctime) > before for path in paths):
            raise UntrustedEntryError("the model's files were changed while it was loaded")
        identities = {str(path): list(file_identity(path)) for path in paths}
        hashes = {str(path): content_hash(path) for path in paths}
        made = make(aside)
        about = {**made, "key": folder.name, "model": model, "model_files": files, "hashes": hashes}
        about["files"] = {path.name: content_hash(path) for path in aside.iterdir()}
        _write_about(aside, about, identities)
        for _ in range(3):
            with suppress(OSError):
                aside.rename(folder)
                break
            try:
                if has_entry(folder):
                    break  # another process was faster
            except UntrustedEntryError:
                discard(folder)
        _clear_unused(folder, model)
        return about
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove an entry, renaming it first so that nobody reads one that is incomplete."""
    with suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
        folder.rename(aside / folder.name)
        shutil.rmtree(aside, ignore_errors=True)


def _clear_unused(folder: Path, model: str) -> None:
    """Remove entries of the same model that nobody uses any more, and what killed processes left.

    Not all others: environments with other versions may share the cache.
    """
    for other in folder.parent.iterdir():
        with suppress(OSError, ValueError, KeyError, TypeError):
            unused = time.time() - other.stat().st_mtime
            if other.name.startswith(_UNFINISHED):
                if unused > _DAY:
                    shutil.rmtree(other, ignore_errors=True)
            elif unused > _UNUSED and json.loads((other / _ABOUT).read_text("utf-8"))["entry"]["model"] == model:
                discard(other)


def _check_model(folder: Path, entry: dict[str, Any], identities: Mapping[str, list[int]]) -> None:
    """Whether the model's files are those that the entry was made of: by their stat, or else by their content."""
    for root, names in entry["model_files"].items():
        if sorted(_files_of(Path(root))) != names:
            raise UntrustedEntryError(f"files were added to the model's folder {root}, or removed")
    now = {path: list(file_identity(Path(path))) for path in entry["hashes"]}
    touched = [path for path, identity in now.items() if identities.get(path) != identity]
    if any(content_hash(path) != entry["hashes"][path] for path in touched):
        raise UntrustedEntryError("the model's files were changed")
    if touched:
        with suppress(OSError):
            _write_about(folder, entry, now)


def _files_of(folder: Path) -> list[str]:
    """The files of a model's folder, those of its modules included; hidden ones are left out."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        within = Path(root).relative_to(folder)
        found += [(within / name).as_posix() for name in names if not name.startswith(".")]
        if len(found) > _MOST_FILES:
            raise UntrustedEntryError(f"the model's folder holds more than {_MOST_FILES} files")
    return [name for name in found if "__pycache__" not in name]


def _write_about(folder: Path, entry: dict[str, Any], identities: Mapping[str, list[int]]) -> None:
    text = json.dumps({"entry": entry, "checksum": _digest(entry), "identities": identities}, indent=1)
    with atomic_file(folder / _ABOUT, durable=True) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _is_ours(folder: Path) -> bool:
    """Whether nobody but this user (or the administrator) can have written here."""
    found = folder.lstat()
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _digest(entry: Any) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _sha256(file: BufferedReader) -> str:
    """Of all of a file, which is then at its beginning again."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest
