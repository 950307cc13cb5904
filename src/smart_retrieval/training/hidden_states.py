"""A frozen backbone's states, computed once and kept on disk, or computed each time they are needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..checksums import bytes_checksum, known_checksum, signed, unsigned
from ..core.head import TokenHead
from ..core.roles import ROLES_FORMAT
from ..embeddings import SmartEmbeddings
from ..errors import NonFiniteError, SmartWarning, TrainingError
from ..files import atomic_file
from ..inputs import Item
from ..model.batching import BatchLimits
from ..model.encoding import Encoder
from ..types import Array
from .data.examples import content_key

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

FORMAT = 1
# States are wider than token vectors, so fewer of them are in flight than while encoding.
_LIMITS = BatchLimits(batch_size=32, batch_tokens=8_192, window_tokens=8_192, window_items=512)
_PROGRESS = "progress.json"


@dataclass(frozen=True)
class StateBatch:
    """Hidden states of some items, of kept positions only."""

    states: list[Tensor]  # one [sum T, H] float32 for each layer, ascending
    lengths: Tensor  # [N] int64
    anchors: Tensor  # [N, Da] float32, of unit length

    def to(self, device: str | torch.device) -> StateBatch:
        """The same on a device."""
        return StateBatch([s.to(device) for s in self.states], self.lengths.to(device), self.anchors.to(device))


class _StatesHead(TokenHead):
    """Gives the states themselves as token vectors, layers side by side."""

    def flat(self, features: dict[str, Any]) -> tuple[Tensor, Tensor]:
        states, kept = self.flat_states(features)
        return torch.cat([state.float() for state in states], dim=-1), kept

    def width(self, state_size: int) -> int:
        return state_size * len(self.readout.layers)


class LiveStates:
    """States of queries or documents that the backbone computes each time; a model's adapter is not applied."""

    def __init__(self, model: SmartModel, items: Sequence[Item], task: str) -> None:
        self._items, self._task = items, task
        self._prompt = model.backbone.prompt_for(task, None, None)
        self._layers = len(model.readout.layers)
        self._encoder = Encoder(model.backbone, model.backbone.token_head(model.readout, kind=_StatesHead))

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, items: Sequence[int]) -> StateBatch:
        """The states of these items, in this order."""
        found = SmartEmbeddings.concatenate(list(self.windows(items)))
        vectors = torch.from_numpy(np.ascontiguousarray(found.token_vectors, np.float32))
        lengths = torch.from_numpy(found.lengths.astype(np.int64))
        return StateBatch(list(vectors.chunk(self._layers, dim=1)), lengths, _unit_anchors(found.anchors))

    def windows(
        self, items: Sequence[int], advance: Callable[[int], None] = lambda _: None
    ) -> Iterator[SmartEmbeddings]:
        """The states of these items as embeddings, window by window."""
        return self._encoder.stream(
            (self._items[int(i)] for i in items),
            task=self._task,
            prompt=self._prompt,
            limits=_LIMITS,
            advance=advance,
        )


class CachedStates:
    """States on disk, memory-mapped: float16, each of unit mean square, and its scale in float32."""

    def __init__(self, folder: Path) -> None:
        about = _read_progress(folder)
        if not about.get("complete"):
            raise TrainingError(f"states {str(folder)!r}: found an unfinished cache, expected one that is complete")
        _check_files(folder, about)
        self._layers = int(about["layers"])
        tokens, width = int(about["tokens"]), int(about["width"])
        self._states = np.memmap(folder / "states.f16", np.float16, "r", shape=(tokens, width))
        self._scales = np.memmap(folder / "scales.f32", np.float32, "r", shape=(tokens, self._layers))
        self._anchors = np.fromfile(folder / "anchors.f32", np.float32).reshape(int(about["items"]), -1)
        lengths = np.fromfile(folder / "lengths.i64", np.int64)
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes on disk of the states."""
        return int(self._states.nbytes + self._scales.nbytes)

    def batch(self, items: Sequence[int]) -> StateBatch:
        """The states of these items, in this order."""
        chosen = np.asarray(items, np.int64)
        spans = [slice(*self._offsets[index : index + 2].tolist()) for index in chosen]
        scales = np.concatenate([self._scales[span] for span in spans])
        states = np.concatenate([self._states[span] for span in spans], dtype=np.float32)
        states = states.reshape(*scales.shape, -1)
        states *= scales[:, :, None]
        layers = [torch.from_numpy(np.ascontiguousarray(states[:, layer])) for layer in range(self._layers)]
        lengths = self._offsets[chosen + 1] - self._offsets[chosen]
        return StateBatch(layers, torch.from_numpy(lengths), _unit_anchors(self._anchors[chosen]))


StateSource: TypeAlias = LiveStates | CachedStates


def _unit_anchors(anchors: Array) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.asarray(anchors, np.float32)), dim=-1)


def cache_states(
    model: SmartModel,
    items: Sequence[Item],
    task: str,
    root: Path,
    *,
    budget: int,
    advance: Callable[[int], None] = lambda _: None,
) -> CachedStates | None:
    """Compute the states of all items once, resuming an interrupted call; None if they exceed ``budget`` bytes."""
    folder = root / "states" / states_key(model, items, task)
    folder.mkdir(parents=True, exist_ok=True)
    about = _read_progress(folder)
    try:
        if about.get("complete"):
            found = CachedStates(folder)
            advance(len(items))
            return found
        _check_files(folder, about)
    except (TrainingError, OSError, ValueError) as error:
        warnings.warn(f"found damaged hidden states and compute them again ({error})", SmartWarning, stacklevel=2)
        shutil.rmtree(folder)
        folder.mkdir(parents=True)
        about = {}
    layers = len(model.readout.layers)
    width = layers * model.state_dim
    done, tokens = int(about.get("items", 0)), int(about.get("tokens", 0))
    advance(done)
    sizes = {
        "states.f16": tokens * width * 2,
        "scales.f32": tokens * layers * 4,
        "anchors.f32": done * model.anchor_dim * 4,
        "lengths.i64": done * 8,
    }
    checksums = dict(about.get("checksums", {} if done else {name: [0, 0] for name in sizes}))
    with ExitStack() as stack:
        files = {name: stack.enter_context(_open_at(folder / name, size)) for name, size in sizes.items()}
        about = {"format": FORMAT, "items": done, "tokens": tokens, "width": width, "layers": layers, "complete": False}
        for window in LiveStates(model, items, task).windows(range(done, len(items)), advance):
            about["items"] += len(window)
            about["tokens"] += len(window.token_vectors)
            if about["tokens"] * (2 * width + 4 * layers) > budget:
                break
            for name, array in _stored(window, layers).items():
                files[name].write(np.ascontiguousarray(array).data)
                files[name].flush()
                os.fsync(files[name].fileno())
                if checksums:  # what a version without them began goes on without
                    size, checksum = checksums[name]
                    checksums[name] = [size + array.nbytes, bytes_checksum(array, checksum)]
            about["checksums"] = checksums
            _write_progress(folder, about)
        else:
            _write_progress(folder, about | {"complete": True})
            return CachedStates(folder)
    shutil.rmtree(folder)
    return None


def states_key(model: SmartModel, items: Sequence[Item], task: str) -> str:
    """64 hexadecimal digits of everything that shapes the states."""
    identity = {
        "format": FORMAT,
        "roles": ROLES_FORMAT,
        "backbone": {k: v for k, v in model.backbone.identity().items() if k != "name"},
        "readout": {"layers": list(model.readout.layers), "token_filter": model.readout.token_filter},
        "task": task,
        "prompt": model.backbone.prompt_for(task, None, None),
        "items": len(items),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for item in items:
        part = repr(content_key(item)).encode()
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _open_at(path: Path, size: int) -> IO[bytes]:
    """Open to append at ``size``: what the progress file does not count is cut off."""
    path.touch()
    os.truncate(path, size)
    return path.open("ab")


def _stored(window: SmartEmbeddings, layers: int) -> dict[str, Array]:
    """A window's part of each file: states of unit mean square, their scales, anchors and lengths."""
    states = np.asarray(window.token_vectors, np.float32).reshape(len(window.token_vectors), layers, -1)
    scales = np.sqrt(np.square(states).mean(axis=2)).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1))
    if not np.isfinite(scales).all():
        raise NonFiniteError(
            "found hidden states too large for float32, expected finite ones: load the model in float32"
        )
    return {
        "states.f16": (states / scales[:, :, None]).astype(np.float16),
        "scales.f32": scales,
        "anchors.f32": np.asarray(window.anchors, np.float32),
        "lengths.i64": window.lengths.astype(np.int64),
    }


def _check_files(folder: Path, about: dict[str, Any]) -> None:
    """Refuse files that are not what was written, as far as they are counted; of a version without checksums, none."""
    for name, (size, checksum) in about.get("checksums", {}).items():
        if (folder / name).stat().st_size < size or known_checksum(folder / name, size) != checksum:
            raise TrainingError(f"states {str(folder)!r}: {name} does not match its checksum; compute them again")


def _write_progress(folder: Path, about: dict[str, Any]) -> None:
    with atomic_file(folder / _PROGRESS) as partial:
        partial.write_text(json.dumps(signed(about)) + "\n", encoding="utf-8")


def _read_progress(folder: Path) -> dict[str, Any]:
    try:
        about = unsigned(json.loads((folder / _PROGRESS).read_text(encoding="utf-8")), optional=True)
    except OSError:
        return {}
    except ValueError as error:
        message = f"found a damaged {_PROGRESS} of hidden states and compute them again ({folder}: {error})"
        warnings.warn(message, SmartWarning, stacklevel=3)
        return {}
    return about if about.get("format") == FORMAT else {}
