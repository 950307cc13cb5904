"""A probe's figures in plain words; the paired test decides what may be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..significance import format_p_value

#: Below this a difference counts as shown.
ALPHA = 0.05

#: Fewer queries than this show large effects only.
_FEW = 50

EFFECTS = {"helps": "SMART helps", "unclear": "No clear effect", "hurts": "SMART hurts"}


def effect_of(gain: Mapping[str, Any]) -> str:
    """Judge a comparison.

    Args:
        gain: A `Comparison` as a dictionary.

    Returns:
        ``"helps"`` or ``"hurts"`` if the test gives p < 0.05 and the interval keeps to one side of 0, else
        ``"unclear"``.

    Example:
        >>> effect_of({"difference": 0.1, "p_value": 0.2, "ci_low": -0.1, "ci_high": 0.3})
        'unclear'
    """
    if gain["p_value"] >= ALPHA:
        return "unclear"
    if gain["difference"] > 0 and gain["ci_low"] > 0:
        return "helps"
    return "hurts" if gain["difference"] < 0 and gain["ci_high"] < 0 else "unclear"


def verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a probe found: whether SMART helps, and where that comes from.

    One test decides, chosen before the data were seen: the model's own setting against its anchor. All else describes.

    Args:
        result: What `probe.probe` has measured.

    Returns:
        ``effect`` (``"helps"``, ``"unclear"`` or ``"hurts"``), ``headline``, ``sentences``.
    """
    rows = {row["name"]: row for row in result["systems"]}
    main = rows["hybrid, default"]["gain"]
    effect = effect_of(main)
    sentences = [
        _told("The hybrid", main),
        *_few(result["dataset"]["n_queries"]),
        _queries(result["queries"]),
        _parts(effect, effect_of(rows["late, default"]["gain"])),
        _against_paper(result["default_against_paper"]),
        *_variants(result["variants"]),
        *_lengths("query", result["query_length"]),
        *_lengths("document", result["document_length"]),
        *_tokens(result["tokens"]),
    ]
    where = f"{result['model']} on {result['dataset']['name']}"
    headline = f"{EFFECTS[effect]}: {where}"
    if result["known_item"]:
        headline += ", as far as known-item queries can tell"
        sentences.append(
            "These are known-item queries, made from the documents themselves: they reward shared words, and are an "
            "indication, not a measurement."
        )
    return {"effect": effect, "headline": headline, "sentences": sentences}


def _told(name: str, gain: Mapping[str, Any]) -> str:
    relative = "" if gain["relative"] is None else f", {gain['relative']:+.1%}"
    return (
        f"{name} has an nDCG@10 of {gain['mean_treatment']:.4f}, the anchor alone {gain['mean_baseline']:.4f}: "
        f"{gain['difference']:+.4f}{relative} (95 % interval {gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}, "
        f"{format_p_value(gain['p_value'])})."
    )


def _few(queries: int) -> list[str]:
    if queries >= _FEW:
        return []
    return [f"With {queries} {'query' if queries == 1 else 'queries'} only a large effect could show."]


def _queries(counted: Mapping[str, Any]) -> str:
    helped, same, hurt = (counted[name]["share"] for name in ("helped", "unchanged", "hurt"))
    return f"{helped:.0%} of the queries are better, {same:.0%} the same and {hurt:.0%} worse than by the anchor."


def _parts(hybrid: str, late: str) -> str:
    alone = {
        "helps": "The token vectors alone are better than the anchor",
        "unclear": "The token vectors alone do not clearly differ from the anchor",
        "hurts": "The token vectors alone are worse than the anchor",
    }[late]
    if hybrid == "helps" and late != "helps":
        return f"{alone}: the gain comes from scoring with both."
    return f"{alone}."


def _against_paper(gain: Mapping[str, Any]) -> str:
    # Of two settings, one plainly better than the other; of "helps" the treatment is the default.
    return {
        "helps": "The default setting is better than the paper's.",
        "unclear": "The default setting and the paper's do not clearly differ.",
        "hurts": "The default setting is worse than the paper's; smart tune can choose between them.",
    }[effect_of(gain)]


def _variants(variants: list[dict[str, Any]]) -> list[str]:
    better = [row["name"] for row in variants if effect_of(row["gain"]) == "helps"]
    worse = [row["name"] for row in variants if effect_of(row["gain"]) == "hurts"]
    told = []
    if worse:
        told.append(f"Clearly worse than the default with one thing changed: {'; '.join(worse)}.")
    if better:
        told.append(
            f"Clearly better than the default with one thing changed: {'; '.join(better)}. These are many looks at the "
            "same queries, so smart tune should confirm it."
        )
    if not told:
        told.append("No other filter, weighting or floor makes a clear difference.")
    return told


def _lengths(kind: str, bins: list[dict[str, Any]]) -> list[str]:
    noun = "queries" if kind == "query" else "relevant documents"
    if len(bins) < 2:
        return [f"All {noun} are about equally long, so nothing can be said about length."]
    first, last = bins[0], bins[-1]
    if None in (first["ci_low"], last["ci_low"]):
        return []
    if first["ci_low"] > last["ci_high"]:
        return [f"The gain is larger for short {noun} than for long ones."]
    if last["ci_low"] > first["ci_high"]:
        return [f"The gain is larger for long {noun} than for short ones."]
    return [f"The gain does not clearly depend on the length of the {noun}."]


def _tokens(tokens: Mapping[str, Any]) -> list[str]:
    every = tokens["all_kept"]
    extra = [role for role in ("special", "template", "prompt") if role in every["document_tokens"]]
    told = []
    if extra and None not in every["wins"].values():
        owned, won = (sum(every[name][role] for role in extra) for name in ("document_tokens", "wins"))
        told.append(
            f"If they were kept, {' and '.join(extra)} tokens would be {owned:.0%} of the document tokens and take "
            f"{won:.0%} of the best matches."
        )
    if (ever := tokens["as_used"]["ever_win"]["all"]) is not None:
        sample = tokens["sample"]
        told.append(
            f"{ever:.0%} of the document tokens are the best match of a token of at least one of {sample['queries']:,} "
            "queries."
        )
    return told
