"""A chosen setting, written into a model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SmartError
from ...model.saving import read_adapter_folder, write_saved

if TYPE_CHECKING:
    from ...core.presets import Preset
    from ...model.smart_model import SmartModel


def check_target(smart: SmartModel, folder: Path) -> None:
    """Refuse a folder that a setting cannot be written to, before the work is done.

    Raises:
        SmartError: It is a file, or holds files and is not the model's own.
    """
    if _own(smart, folder) or not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise SmartError(
            f"{folder}: found {'files in it' if folder.is_dir() else 'a file'}, expected a new folder for the model "
            "with its setting, or the folder that --model names"
        )


def write_setting(smart: SmartModel, setting: Preset, folder: Path) -> None:
    """Write a model with a setting, which `SmartModel` then starts from.

    Into the model's own folder only ``smart/`` is written. Another folder gets the whole model, or the adapter alone
    where that is what was loaded.

    Args:
        smart: The model.
        setting: What it shall read and score with.
        folder: A new folder, or the model's own.

    Raises:
        SmartError: See `check_target`.
    """
    check_target(smart, folder)
    tuned = smart.with_readout(setting.readout)
    tuned.preset = setting
    if read_adapter_folder(smart.name) is not None:
        tuned.save_adapter(folder)
    elif _own(smart, folder):
        write_saved(folder, tuned.readout, tuned.backbone.identity(), tuned.adapter, scoring=setting.scoring)
    else:
        tuned.save_pretrained(folder)


def _own(smart: SmartModel, folder: Path) -> bool:
    """Whether a folder is the one the model was loaded from."""
    name = Path(smart.name).expanduser()
    return name.is_dir() and folder.is_dir() and name.samefile(folder)
