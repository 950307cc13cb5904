"""SmartEmbeddings on disk: one safetensors file, or a folder of .npy files that grows as an encoding streams in."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .embeddings import ARRAYS, FORMAT, SmartEmbeddings
from .encoding_report import EncodingReport
from .errors import EmbeddingsError

MANIFEST = "embeddings.json"


def save(embeddings: SmartEmbeddings, path: Path) -> Path:
    """Write embeddings to ``path``; see :meth:`SmartEmbeddings.save`."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        arrays = {name: np.ascontiguousarray(array) for name, array in embeddings.to_numpy().items()}
        save_file(arrays, partial, metadata={"format": FORMAT, "report": json.dumps(embeddings.report.to_dict())})
        os.replace(partial, path)
        return path
    with EmbeddingsWriter(path) as writer:
        writer.append(embeddings)
    return path


def load(path: Path, *, mmap: bool = False) -> SmartEmbeddings:
    """Read embeddings from ``path``; see :meth:`SmartEmbeddings.load`."""
    if not path.exists():
        raise EmbeddingsError(f"embeddings {str(path)!r}: found no such file or folder")
    try:
        arrays, manifest = _read_folder(path, mmap) if path.is_dir() else _read_safetensors(path)
        report = EncodingReport.from_dict(manifest["report"])
    except EmbeddingsError:
        raise
    except Exception as error:  # whatever a damaged file provokes in the readers
        raise EmbeddingsError(f"embeddings {str(path)!r}: cannot be read ({type(error).__name__}: {error})") from error
    if manifest.get("format") != FORMAT:
        raise EmbeddingsError(f"embeddings {str(path)!r}: found format {manifest.get('format')!r}, expected {FORMAT!r}")
    embeddings = SmartEmbeddings.from_numpy(arrays)
    embeddings.report = report
    return embeddings


def _read_folder(path: Path, mmap: bool) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    manifest_file = path / MANIFEST
    if not manifest_file.is_file():
        raise EmbeddingsError(
            f"embeddings {str(path)!r}: found no {MANIFEST}: not a folder of embeddings, or its encoding was cut off; "
            "encode again"
        )
    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    mode: Literal["r"] | None = "r" if mmap else None
    # Grids came later: folders written before have none.
    names = [name for name in ARRAYS if not name.startswith("grid_") or (path / f"{name}.npy").is_file()]
    # Grids are few, and an array without rows cannot be mapped.
    modes = {name: None if name.startswith("grid_") else mode for name in names}
    return {name: np.load(path / f"{name}.npy", mmap_mode=modes[name], allow_pickle=False) for name in names}, manifest


def _read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return arrays, {"format": metadata.get("format"), "report": json.loads(metadata.get("report", "{}"))}


class EmbeddingsWriter:
    """Appends batches to a folder; memory holds one batch at a time, whatever the number of items.

    The arrays are written to a hidden sibling folder and appear under their name when the writer closes, so a
    folder that exists is complete. An exception inside the ``with`` block removes the partial folder.

    Args:
        path: The folder to write; an earlier one of that name is replaced when this one is complete.

    Raises:
        EmbeddingsError: The path is a file, or a folder of something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not _holds_only_embeddings(self.path):
            raise EmbeddingsError(
                f"embeddings {str(self.path)!r}: found a file or a folder of something else, expected a new path"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two writers to one path do not mix, and nobody else's folder is touched.
        self._part = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent))
        self._arrays: dict[str, _GrowingArray] = {}
        self._tokens = self._grids = 0
        self.report = EncodingReport()

    def append(self, batch: SmartEmbeddings) -> None:
        """Add a batch behind the ones before it.

        Raises:
            EmbeddingsError: Its widths or dtypes differ from the first batch's.
        """
        arrays = batch.to_numpy() | {
            "offsets": batch.offsets[1:] + self._tokens,
            "grid_offsets": batch.grid_offsets[1:] + self._grids,
        }
        if not self._arrays:
            for name, array in arrays.items():
                self._arrays[name] = _GrowingArray(self._part / f"{name}.npy", array)
            for name in ("offsets", "grid_offsets"):
                self._arrays[name].append(np.zeros(1, np.int64))
        for name, array in arrays.items():
            self._arrays[name].append(array)
        self._tokens += len(batch.token_vectors)
        self._grids += len(batch.grid_rows)
        self.report += batch.report

    def close(self) -> None:
        """Finish the files and put the folder in its place.

        Raises:
            EmbeddingsError: Nothing was appended.
        """
        if not self._arrays:
            self.abort()
            raise EmbeddingsError(f"embeddings {str(self.path)!r}: nothing was encoded, so there is nothing to write")
        for array in self._arrays.values():
            array.close()
        manifest = {"format": FORMAT, "report": self.report.to_dict()}
        (self._part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self._part, self.path)

    def abort(self) -> None:
        """Drop what was written."""
        for array in self._arrays.values():
            array.file.close()
        shutil.rmtree(self._part, ignore_errors=True)

    def __enter__(self) -> EmbeddingsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class _GrowingArray:
    """One .npy file that grows along its first axis; NumPy's header leaves room for the number to grow."""

    def __init__(self, path: Path, first: NDArray[Any]) -> None:
        self.dtype, self.row_shape, self.rows = first.dtype, first.shape[1:], 0
        self.file: IO[bytes] = path.open("w+b")
        self._write_header()

    def _write_header(self) -> None:
        self.file.seek(0)
        shape = (self.rows, *self.row_shape)
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self.file, header)

    def append(self, rows: NDArray[Any]) -> None:
        if rows.dtype != self.dtype or rows.shape[1:] != self.row_shape:
            raise EmbeddingsError(
                f"found rows of {rows.dtype} {rows.shape[1:]}, expected {self.dtype} {self.row_shape} as before"
            )
        self.file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def close(self) -> None:
        self._write_header()
        self.file.close()


def _holds_only_embeddings(path: Path) -> bool:
    """Whether nothing but an earlier encoding, or nothing at all, would be lost by replacing this folder."""
    own = {MANIFEST, *(f"{name}.npy" for name in ARRAYS)}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= own
