"""A tuning in words, for the result and for a terminal; significance decides what may be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..significance import format_p_value
from ..terminal import new_table, print_verdict

LEVEL = 0.05  #: what counts as significant
#: Below this the choice is one of chance: halves of CACM's 52 queries disagree by more than the settings differ.
FEW_QUERIES = 100

_COLUMNS = ("anchor", "paper", "default", "out_of_fold", "in_sample")


def is_gain(comparison: Mapping[str, Any]) -> bool:
    """Whether the treatment is significantly better."""
    return bool(comparison["p_value"] < LEVEL and comparison["difference"] > 0)


def verdict(result: Mapping[str, Any], *, is_default: bool, target: str | None) -> dict[str, Any]:
    """Whether the tuned setting is significantly better than the default (``better``) and the anchor (``smart_helps``).

    ``headline`` and ``sentences`` say the rest. The setting was to be written to ``target``, if anywhere.
    """
    gain, over_anchor = result["gain"], result["over_anchor"]
    better, helps = is_gain(gain) and not is_default, is_gain(over_anchor)
    if better:
        headline = "Better than the default on queries it was not chosen on"
    elif is_default:
        headline = "The default is the best of all settings tried here"
    else:
        headline = "No setting is shown to be better than the default"
    in_sample = result["in_sample"]["difference"]
    sentences = [
        f"Chosen: {result['chosen']['name']}; {result['agreement']['whole']} of {len(result['folds'])} folds chose the "
        "same.",
        f"Out of fold against the default: {_difference(gain)}.",
        f"On the queries it was chosen on the difference is {in_sample:+.4f}; the excess comes from choosing the best."
        if in_sample > max(0, gain["difference"])
        else f"On the queries it was chosen on: {in_sample:+.4f}.",
        f"Out of fold against the anchor: {_difference(over_anchor)}.",
    ]
    if not result["chosen"]["lambda_late"]:
        sentences.append("SMART does not help here: of all settings the anchor alone was chosen.")
    elif not helps:
        sentences.append("That SMART helps on these data is not shown.")
    queries = sum(row["queries"] for row in result["rows"])
    if queries < FEW_QUERIES:
        sentences.append(
            f"{queries} queries are too few to choose among {result['settings']:,} settings on: expected "
            f"{FEW_QUERIES} or more, since fewer pick a setting that suits them by chance."
        )
    if result["written"] is not None:
        sentences.append(f"Written to {result['written']}; a model loaded from there starts from this setting.")
    elif target is not None:
        why = "it is the model's own" if is_default else "it is not significantly better than the default"
        sentences.append(f"Nothing was written to {target}: {why}.")
    return {"better": better, "smart_helps": helps, "headline": headline, "sentences": sentences}


def _difference(comparison: Mapping[str, Any]) -> str:
    return (
        f"{comparison['difference']:+.4f} ({format_p_value(comparison['p_value'])}, 95 % interval "
        f"{comparison['ci_low']:+.4f} to {comparison['ci_high']:+.4f})"
    )


def print_tune(result: Mapping[str, Any]) -> None:
    """Print the verdict, nDCG@10 of each collection, what each fold chose, and the notes."""
    table = new_table("nDCG@10", "queries", "anchor", "paper", "default", "out of fold", "(in sample)")
    for row in result["rows"]:
        table.add_row(row["name"], f"{row['queries']:,}", *(f"{row[name]:.4f}" for name in _COLUMNS))
    agreeing = ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in result["agreement"].items() if name != "whole"
    )
    units = "multiples of the anchor's nDCG@10, each collection equally" if len(result["rows"]) > 1 else "nDCG@10"
    notes = [
        f"{result['settings']:,} settings tried; differences in {units}; paired randomisation test",
        *result["notes"],
    ]
    folds = [f"fold {row['fold'] + 1}: {row['chosen']['name']}" for row in result["folds"]]
    folds.append(f"of {len(folds)} folds agree with the choice on all queries: {agreeing}")
    print_verdict(result["verdict"], table, notes, folds)
