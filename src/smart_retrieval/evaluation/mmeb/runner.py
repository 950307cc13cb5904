"""MMEB-V2 from a data root and a model to result files: read, check, encode once, rank, judge, write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...core.presets import Preset
from ...core.scoring import TokenWeights
from ...errors import DatasetError, ScoringError, SmartError
from .keys import MediaDigests
from .layout import Missing, check_root
from .parsers import parse
from .processes import find_processes, own_device
from .prompts import Prompts, get_prompts
from .revisions import check_revisions
from .run import Options, Run
from .store import EncodingStore
from .tasks import Task, choose

if TYPE_CHECKING:
    from ...model.smart_model import SmartModel


def preflight(tasks: Iterable[Task], root: Path, prompts: Prompts) -> dict[str, Missing]:
    """What each task lacks; tasks that are complete are left out.

    Args:
        tasks: The tasks.
        root: The data root.
        prompts: How inputs are worded.

    Raises:
        DatasetError: Annotations are malformed.
    """
    found = {task.name: parse(task, root, prompts).missing for task in tasks}
    return {name: missing for name, missing in found.items() if missing}


def evaluate_mmeb(
    data_root: str | Path,
    out: str | Path,
    *,
    tasks: Sequence[str] = (),
    modalities: Sequence[str] = (),
    model: str | Path | SmartModel = "glyph",
    preset: str | None = None,
    weights: TokenWeights | Literal["preset"] = "preset",
    floor: float | Literal["preset"] | None = "preset",
    token_filter: str | None = None,
    lambda_anchor: float | None = None,
    options: Options | None = None,
    revisions: Mapping[str, str] | None = None,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    progress: bool | None = False,
    **model_options: Any,
) -> dict[str, Any]:
    """Measure a model on tasks of MMEB-V2.

    Args:
        data_root: Where the data lie, see ``docs/guide_mmeb.md``.
        out: Folder of the results: ``result.json``, and for each setting ``<setting>/leaderboard.json``,
            ``<setting>/<task>_score.json`` and ``<setting>/<task>_pred.jsonl``.
        tasks: Names of tasks; all of them when neither these nor modalities are given.
        modalities: ``"image"``, ``"video"``, ``"visdoc"``.
        model: Name or path of a model, or a loaded one.
        preset: Where readout and scoring start from; the model's own when None.
        weights: ``"uniform"`` or ``"idf"`` query-token weights, over the preset's.
        floor: Token similarities that count as none, None for no floor; the preset's when left out.
        token_filter: ``"paper"`` or ``"content"``, over the preset's.
        lambda_anchor: Weight of the anchors' cosine, over the preset's.
        options: Everything else about ranking.
        revisions: Commits by data set that the annotations must be of; of others, the result says what they are of.
        cache: Where encodings are kept; the user's cache when None.
        batch_size: Most items in one forward pass.
        progress: Draw bars on stderr; None draws them on a terminal only.
        **model_options: As :class:`~smart_retrieval.SmartModel` takes them.

    Returns:
        JSON-able: ``model``, ``preset``, ``prompts``, ``settings`` (means of each), ``tasks`` (notes and counts of
        each), ``missing`` (task -> reason) and what is needed to run it again.

    Raises:
        DatasetError: Files are missing (``missing.txt`` in ``out`` lists all), malformed, or of another commit.
        SmartError: The model cannot be loaded or run; a folder cannot be written.
    """
    options = options or Options()
    chosen_tasks = choose(tasks, modalities)
    root, folder = check_root(Path(data_root)), Path(out).expanduser()
    check_revisions(chosen_tasks, root, revisions or {})
    lacking = preflight(chosen_tasks, root, get_prompts(options.prompts or "qwen"))
    missing = _refuse_or_name(lacking, chosen_tasks, folder, options)
    scoring = {"weights": weights, "lambda_anchor": lambda_anchor, "floor": floor}
    smart, chosen = _load(model, preset, token_filter, scoring, model_options)
    prompts = get_prompts(options.prompts or ("v2v" if "vlm2vec" in _family(smart) else "qwen"))
    root_of_cache = Path(cache).expanduser() if cache is not None else _default_cache()
    store = EncodingStore(
        root_of_cache / "mmeb", smart, batch_size=batch_size, progress=progress, processes=find_processes()
    )
    run = Run(root, folder, store, chosen, prompts, options, MediaDigests(root_of_cache / "mmeb" / "media.jsonl"))
    measured: dict[str, dict[str, Any]] = {}
    for task in chosen_tasks:
        if task.name in lacking:
            continue
        if needless := _unsupported(task, smart):
            missing[task.name] = needless
        else:
            measured[task.name] = run.task(task)
    missing |= {task.name: "not asked for" for task in choose() if task not in chosen_tasks}
    return run.finish(measured, missing)


def _refuse_or_name(
    lacking: Mapping[str, Missing], tasks: Sequence[Task], folder: Path, options: Options
) -> dict[str, str]:
    """Reasons by task of those that lack files, or an error."""
    if not lacking:
        return {}
    listing = folder / "missing.txt"
    lines = [f"{name}\t{path}" for name, missing in lacking.items() for path in missing.all()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        listing.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise SmartError(f"cannot write {listing} ({error.strerror or error})") from error
    if options.skip_incomplete and len(lacking) < len(tasks):
        return dict.fromkeys(lacking, f"files missing, listed in {listing}")
    first_name, first = next(iter(lacking.items()))
    annotations = [name for name, missing in lacking.items() if missing.annotations]
    advice = "fetch annotations with  smart eval mmeb --from-hub" if annotations else "extract the archives"
    raise DatasetError(
        f"{len(lacking)} of {len(tasks)} tasks lack {len(lines)} files or folders, first {first.all()[0]} "
        f"({first_name}); all are listed in {listing}: {advice} (docs/guide_mmeb.md), or measure the others with "
        "--skip-incomplete"
    )


def _load(
    model: str | Path | SmartModel,
    preset: str | None,
    token_filter: str | None,
    scoring: Mapping[str, Any],
    model_options: Mapping[str, Any],
) -> tuple[SmartModel, Preset]:
    from ...model.smart_model import SmartModel

    if isinstance(model, SmartModel):
        if preset is not None or model_options:
            raise ScoringError("found a preset or model options beside a loaded model, expected the model's name")
        smart = model
    else:
        device = model_options.get("device") or own_device()
        smart = SmartModel(model, preset=preset or "default", **{**model_options, "device": device})
    if token_filter is not None:
        smart = smart.with_readout(replace(smart.readout, token_filter=token_filter))
    return smart, replace(smart.preset, scoring=smart.preset.scoring.override(**scoring))


def _family(smart: SmartModel) -> str:
    return str(getattr(smart.backbone, "family", ""))


def _unsupported(task: Task, smart: SmartModel) -> str | None:
    needed = "video" if task.modality == "video" else "image"
    return None if needed in smart.modalities else f"the model takes no {needed}"


def _default_cache() -> Path:
    from ..cache import EncodingCache

    return EncodingCache().folder.parent
