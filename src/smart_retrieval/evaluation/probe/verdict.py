"""A probe in words, for the page and for a terminal; the paired test decides what may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.roles import CONTENT_ROLES, TokenRole
from ..significance import format_p_value, p_value_text
from ..terminal import new_table, notes, print_verdict

ALPHA = 0.05  #: below this a difference counts as shown
_FEW = 100  # fewer queries than this show large effects only

EFFECTS = {"helps": "SMART helps", "unclear": "No clear effect", "hurts": "SMART hurts"}


def effect_of(gain: Mapping[str, Any]) -> str:
    """``"helps"`` or ``"hurts"`` if p < 0.05 and the interval is on one side of 0, else ``"unclear"``."""
    if gain["p_value"] >= ALPHA:
        return "unclear"
    if gain["difference"] > 0 and gain["ci_low"] > 0:
        return "helps"
    return "hurts" if gain["difference"] < 0 and gain["ci_high"] < 0 else "unclear"


def verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """Whether SMART helps, and where that comes from: ``effect``, ``headline`` and ``sentences``.

    One test decides, chosen before the data were seen: the model's own setting against its anchor. All else describes.
    """
    gains = {row["name"]: row["gain"] for row in result["systems"]}
    gain = gains["hybrid, default"]
    effect = effect_of(gain)
    relative = "" if gain["relative"] is None else f", {gain['relative']:+.1%}"
    helped, same, hurt = (result["queries"][name]["share"] for name in ("helped", "unchanged", "hurt"))
    n_queries = result["dataset"]["n_queries"]
    sentences = [
        f"The hybrid has an nDCG@10 of {gain['mean_treatment']:.4f}, the anchor alone {gain['mean_baseline']:.4f}: "
        f"{gain['difference']:+.4f}{relative} (95 % interval {gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}, "
        f"{format_p_value(gain['p_value'])})."
    ]
    if n_queries < _FEW:
        sentences.append(f"With {n_queries} {'query' if n_queries == 1 else 'queries'} only a large effect could show.")
    sentences += [
        f"{helped:.0%} of the queries are better, {same:.0%} the same and {hurt:.0%} worse than by the anchor.",
        _late_alone(effect, effect_of(gains["late, default"])),
        # Of two settings, one clearly better than the other; of "helps" the treatment is the default.
        {
            "helps": "The default setting is better than the paper's.",
            "unclear": "The default setting and the paper's do not clearly differ.",
            "hurts": "The default setting is worse than the paper's; smart tune can choose between them.",
        }[effect_of(result["default_against_paper"])],
        *_variants(result["variants"]),
        *_lengths("queries", result["query_length"]),
        *_lengths("relevant documents", result["document_length"]),
        *_tokens(result["tokens"]),
    ]
    headline = f"{EFFECTS[effect]}: {result['model']} on {result['dataset']['name']}"
    if result["known_item"]:
        headline += ", as far as known-item queries can tell"
        sentences.append(
            "These are known-item queries, made from the documents themselves: they reward shared words, and are an "
            "indication, not a measurement."
        )
    return {"effect": effect, "headline": headline, "sentences": sentences}


def _late_alone(hybrid: str, late: str) -> str:
    alone = {
        "helps": "The token vectors alone are better than the anchor",
        "unclear": "The token vectors alone do not clearly differ from the anchor",
        "hurts": "The token vectors alone are worse than the anchor",
    }[late]
    return f"{alone}: the gain comes from scoring with both." if hybrid == "helps" != late else f"{alone}."


def _variants(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    worse, better = (
        "; ".join(row["name"] for row in variants if effect_of(row["gain"]) == effect) for effect in ("hurts", "helps")
    )
    if not worse and not better:
        return ["No other filter, weighting or floor makes a clear difference."]
    sentences = []
    if worse:
        sentences.append(f"Clearly worse than the default with one thing changed: {worse}.")
    if better:
        sentences.append(
            f"Clearly better than the default with one thing changed: {better}. These are many comparisons on the "
            "same queries, so smart tune should confirm it."
        )
    return sentences


def _lengths(noun: str, bins: Sequence[Mapping[str, Any]]) -> list[str]:
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
    shares, wins = tokens["all_kept"]["document_tokens"], tokens["all_kept"]["wins"]
    extra = [role for role in shares if TokenRole[role.upper()] not in CONTENT_ROLES]
    sentences = []
    if extra and None not in wins.values():
        sentences.append(
            f"If they were kept, {' and '.join(extra)} tokens would be {sum(shares[role] for role in extra):.0%} of "
            f"the document tokens and take {sum(wins[role] for role in extra):.0%} of the best matches."
        )
    if (ever := tokens["as_used"]["ever_win"]["all"]) is not None:
        sentences.append(
            f"{ever:.0%} of the document tokens are the best match of a token of at least one of "
            f"{tokens['sample']['queries']:,} queries."
        )
    return sentences


def all_notes(result: Mapping[str, Any]) -> list[str]:
    """The probe's own notes and those on data and encoding, each once."""
    return list(dict.fromkeys([*result["notes"], *notes(result)]))


def print_probe(result: Mapping[str, Any]) -> None:
    """Print the verdict, the systems and the notes; a table of 80 columns, in colour on a terminal only."""
    table = new_table("", "nDCG@10", "over the anchor", "95 % interval", "p")
    for row in result["systems"]:
        gain, figures = row["gain"], [f"{row['value']:.4f}"]
        if gain is not None:
            interval = f"{gain['ci_low']:+.4f} to {gain['ci_high']:+.4f}"
            figures += [f"{gain['difference']:+.4f}", interval, p_value_text(gain["p_value"])]
        table.add_row(row["name"], *figures)
    print_verdict(result["verdict"], table, all_notes(result))
