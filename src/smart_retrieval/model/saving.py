"""The readout on disk: ``smart/config.json`` and, where there is an adapter, ``smart/model.safetensors``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backbones.checkpoints import CHECKPOINT_FILES, COMPUTES, LoadOptions, as_recorded
from ..checksums import arrays_checksum, signed, unsigned
from ..core.calibration import Calibration
from ..core.presets import default_of_0_1
from ..core.readout import Readout
from ..core.scoring import Scoring
from ..errors import AdapterMismatchError, ReadoutError, ScoringError, one_of
from ..files import atomic_file

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.adapter import Adapter, AdapterConfig
    from ..core.presets import Preset

SMART_FOLDER = "smart"
SMART_FORMAT = "smart-model/1"
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_KEYS = {"format", "readout", "backbone", "adapter", "prompts", "scoring", "calibration", "compute"}


@dataclass(frozen=True)
class SavedReadout:
    """The contents of a ``smart/`` folder."""

    file: Path  # its config.json
    readout: Readout
    backbone: dict[str, Any] = field(default_factory=dict)  # identity: name, revision, fingerprint, limits
    adapter: AdapterConfig | None = None  # whose weights lie beside the file
    prompts: dict[str, str] | None = None  # of a folder that holds no backbone
    scoring: Scoring | None = None
    calibration: Calibration | None = None
    compute: str = "float32"  # as asked for: "auto" is settled where it is opened

    @property
    def names_its_backbone(self) -> bool:
        """Whether the folder holds an adapter alone, and the backbone lies elsewhere."""
        root = self.file.parent.parent
        return self.adapter is not None and not any((root / name).is_file() for name in CHECKPOINT_FILES)

    def load_adapter(self) -> Adapter | None:
        """The adapter with its weights; None where there is none."""
        if self.adapter is None:
            return None
        from ..core.adapter import Adapter

        file = self.file.parent / WEIGHTS_FILE
        adapter = Adapter(self.adapter)
        load_weights(adapter, read_tensors(file), str(file))
        return adapter.eval()

    def preset(self, chosen: Preset) -> Preset:
        """The preset that a model of this folder starts from, where this one was chosen.

        ``"default"`` means what the folder holds; another preset only loses a fixed floor under an adapter, since it
        was chosen for the frozen states.
        """
        scoring = chosen.scoring
        if chosen.name == "default":
            scoring = self.scoring or default_of_0_1(self.readout)
            chosen = replace(chosen, readout=self.readout, scoring=scoring)
        named = self.scoring is not None and chosen.name == "default"
        return chosen if named or self.adapter is None else replace(chosen, scoring=scoring.for_other_states())

    def as_trained(self, options: LoadOptions) -> LoadOptions:
        """The options that load the backbone as the adapter was trained on it; those given take precedence."""
        own = self.backbone
        names = ("max_visual_tokens", "max_frames", "video_budget", "truncate_dim", "revision", "max_length")
        options = options.filled(**as_recorded(own), **{name: own.get(name) for name in names})
        return replace(options, as_published=False, prompts={**(self.prompts or {}), **(options.prompts or {})})

    def check_backbone(self, name: str, fingerprint: str) -> None:
        """Refuse another backbone than the adapter was trained on."""
        wanted = self.backbone.get("fingerprint")
        if self.adapter is not None and wanted != fingerprint:
            raise AdapterMismatchError(
                f"adapter {str(self.file.parent.parent)!r}: found backbone {name!r} with weights {fingerprint}, "
                f"expected those it was trained on, {self.backbone.get('name')!r} with weights {wanted} "
                f"(revision {self.backbone.get('revision')}): give that one, in the precision of its training"
            )


def read_saved(folder: Path) -> SavedReadout | None:
    """Read a model folder's ``smart/config.json``; None where there is none."""
    file = folder / SMART_FOLDER / CONFIG_FILE
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReadoutError(f"readout {str(file)!r}: not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != SMART_FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ReadoutError(f"readout {str(file)!r}: found format {found!r}, expected {SMART_FORMAT!r}")
    if unknown := sorted(set(config) - _KEYS):
        raise ReadoutError(f"readout {str(file)!r}: found unknown keys {unknown}; a newer version may have written it")
    if "readout" not in config:
        raise ReadoutError(f"readout {str(file)!r}: found no key 'readout'; save the model again")
    backbone, prompts = config.get("backbone", {}), config.get("prompts")
    if not isinstance(backbone, dict) or not isinstance(prompts, dict | None):
        raise ReadoutError(f"readout {str(file)!r}: found no object under backbone or prompts; save the model again")
    readout = Readout.from_dict(config["readout"])
    shape = None
    if config.get("adapter") is not None:
        from ..core.adapter import AdapterConfig

        shape = AdapterConfig.from_dict(config["adapter"])
        if shape.layers != len(readout.layers):
            raise ReadoutError(
                f"readout {str(file)!r}: found an adapter for {shape.layers} layers beside layers "
                f"{list(readout.layers)}, expected as many"
            )
    scoring, calibration = _scoring(config.get("scoring"), file), _calibration(config.get("calibration"), file)
    compute = config.get("compute", "float32")
    if compute not in COMPUTES:
        raise ReadoutError(f"readout {str(file)!r}: compute: {one_of(compute, COMPUTES)}")
    return SavedReadout(file, readout, backbone, shape, prompts, scoring, calibration, compute)


def _scoring(found: Any, file: Path) -> Scoring | None:
    """The scoring a file holds, checked."""
    if found is None:
        return None
    needed = {"weights": str, "lambda_anchor": int | float, "lambda_late": int | float | str}
    kinds = needed | {"floor": int | float | str | None}  # left out where there is none
    if (
        not isinstance(found, dict)
        or not set(needed) <= set(found) <= set(kinds)
        or any(not isinstance(value, kinds[name]) or isinstance(value, bool) for name, value in found.items())
        or not all(math.isfinite(value) for value in found.values() if isinstance(value, int | float))
    ):
        raise ReadoutError(
            f"readout {str(file)!r}: found scoring {found!r}, expected {', '.join(sorted(needed))} and optionally floor"
        )
    try:
        return Scoring(**found)
    except ScoringError as error:
        raise ReadoutError(f"readout {str(file)!r}: found scoring {found!r}: {error}") from error


def _calibration(found: Any, file: Path) -> Calibration | None:
    """The calibration a file holds, checked."""
    try:
        return None if found is None else Calibration.from_dict(unsigned(found, optional=True))
    except ValueError as error:  # a ScoringError for one
        raise ReadoutError(f"readout {str(file)!r}: {error}, in its calibration; calibrate again") from error


def read_adapter_folder(name: str) -> SavedReadout | None:
    """The contents of an adapter folder; None for every other model's name."""
    try:
        saved = read_saved(Path(name).expanduser()) if name.strip() else None
    except ReadoutError:
        raise
    except (OSError, ValueError, RuntimeError):  # longer than a path may be, or no path at all
        return None
    return saved if saved is not None and saved.names_its_backbone else None


def check_layers(readout: Readout, trained: Readout) -> None:
    """Refuse to read an adapter's states from other layers than it was trained on."""
    if readout.layers != trained.layers:
        raise AdapterMismatchError(
            f"found a readout of layers {list(readout.layers)}, expected {list(trained.layers)}, on which the adapter "
            "was trained; with_adapter(None) removes it"
        )


def write_adapter(
    folder: Path,
    readout: Readout,
    backbone: Mapping[str, Any],
    source: Path,
    adapter: Adapter,
    prompts: Mapping[str, str],
    scoring: Scoring,
    calibration: Calibration | None,
    compute: str,
) -> None:
    """Write an adapter alone, with the name of its backbone, whose files are at ``source`` if they are local."""
    if source.is_dir() and Path(backbone["name"]).is_dir():
        # Seen from another folder, a relative path would lead elsewhere.
        backbone = {**backbone, "name": str(Path(backbone["name"]).resolve())}
    write_saved(folder, readout, backbone, adapter, prompts, scoring, calibration, compute)
    saved = read_saved(folder)
    if saved is None or not saved.names_its_backbone:
        raise ReadoutError(f"adapter {str(folder)!r}: found a checkpoint in that folder, expected a new folder")


def write_saved(
    folder: Path,
    readout: Readout,
    backbone: Mapping[str, Any],
    adapter: Adapter | None = None,
    prompts: Mapping[str, str] | None = None,
    scoring: Scoring | None = None,
    calibration: Calibration | None = None,
    compute: str = "float32",
) -> None:
    """Write ``smart/`` into a model folder; ``prompts`` are for one that holds no backbone."""
    smart = folder / SMART_FOLDER
    smart.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"format": SMART_FORMAT, "readout": readout.to_dict(), "backbone": dict(backbone)}
    if adapter is not None:
        config["adapter"] = adapter.config.to_dict()
        # Before the config that mentions them.
        write_tensors(smart / WEIGHTS_FILE, adapter.state_dict())
    else:
        (smart / WEIGHTS_FILE).unlink(missing_ok=True)
    if prompts is not None:
        config["prompts"] = dict(prompts)
    if scoring is not None:
        config["scoring"] = {name: value for name, value in scoring.to_dict().items() if value is not None}
    if compute != "float32":
        config["compute"] = compute
    if calibration is not None:
        # The rest is for people to read and change; these are measured numbers.
        config["calibration"] = signed(calibration.to_dict())
    with atomic_file(smart / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_weights(adapter: Adapter, tensors: Mapping[str, Tensor], where: str) -> None:
    """Fill an adapter, checking every name and shape; ``where`` is their source, for error messages."""
    wanted = adapter.state_dict()
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or unknown:
        raise ReadoutError(f"adapter {where!r}: found weights {sorted(tensors)}: missing {missing}, unknown {unknown}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise ReadoutError(
                f"adapter {where!r}: found {name} of shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
            )
        if not bool(tensor.isfinite().all()):
            raise ReadoutError(f"adapter {where!r}: found NaN or infinity in {name}, expected finite weights")
    adapter.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file."""
    return read_tensors_and_metadata(file)[0]


def read_tensors_and_metadata(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file and what is said about them, as :func:`write_tensors` wrote them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, ValueError) as error:
        raise ReadoutError(f"adapter {str(file)!r}: expected safetensors weights, found {error}") from error
    # Files of version 0.1.0, and of others, have none.
    found = metadata.pop("crc32", None)
    if found is not None and found != _checksum(tensors, metadata):
        raise ReadoutError(f"adapter {str(file)!r}: found weights that do not match their checksum; restore a copy")
    return tensors, metadata


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = metadata or {}
    with atomic_file(file, durable=True) as partial:
        save_file(plain, partial, about | {"crc32": _checksum(plain, about)})


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    from torch import uint8

    about = {"metadata": dict(metadata), "tensors": {n: [str(t.dtype), list(t.shape)] for n, t in tensors.items()}}
    # As bytes, since NumPy knows no bfloat16.
    return str(arrays_checksum(about, {name: t.reshape(-1).view(uint8).numpy() for name, t in tensors.items()}))
