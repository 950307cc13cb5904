"""Measuring retrieval: on BEIR folders, mteb's tasks and MMEB-V2, with tests, tables and reports.

``probe`` and ``tune`` are packages of their own: ``from smart_retrieval.evaluation.probe import probe``.

Example:
    >>> from smart_retrieval.evaluation import evaluate_beir, print_table
    >>> print_table(evaluate_beir("cranfield", model="minilm"))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .beir import BeirDataset as BeirDataset
    from .beir import load_beir as load_beir
    from .cache import EncodingCache as EncodingCache
    from .cache import encode_dataset as encode_dataset
    from .codecs import evaluate_codecs as evaluate_codecs
    from .codecs import plot_codecs as plot_codecs
    from .compare import compare_beir as compare_beir
    from .evaluate import Collection as Collection
    from .evaluate import EvalOptions as EvalOptions
    from .evaluate import evaluate_beir as evaluate_beir
    from .evaluate import load_collection as load_collection
    from .known_item import load_known_item as load_known_item
    from .metrics import METRICS as METRICS
    from .metrics import per_query_metrics as per_query_metrics
    from .metrics import rank as rank
    from .mmeb.runner import evaluate_mmeb as evaluate_mmeb
    from .mteb import IndexSearch as IndexSearch
    from .mteb import SmartSearch as SmartSearch
    from .mteb import evaluate_mteb as evaluate_mteb
    from .provenance import stable as stable
    from .report.plots import draw_plots as draw_plots
    from .report.report import Report as Report
    from .report.report import build_report as build_report
    from .results import BeirResult as BeirResult
    from .results import CodecsResult as CodecsResult
    from .results import CompareResult as CompareResult
    from .results import MtebResult as MtebResult
    from .results import write_json as write_json
    from .significance import Comparison as Comparison
    from .significance import paired_comparison as paired_comparison
    from .terminal import print_table as print_table
    from .terminal import render_table as render_table

_HOMES = {
    "METRICS": "metrics",
    "BeirDataset": "beir",
    "BeirResult": "results",
    "CodecsResult": "results",
    "Collection": "evaluate",
    "CompareResult": "results",
    "Comparison": "significance",
    "EncodingCache": "cache",
    "EvalOptions": "evaluate",
    "IndexSearch": "mteb",
    "MtebResult": "results",
    "Report": "report.report",
    "SmartSearch": "mteb",
    "build_report": "report.report",
    "compare_beir": "compare",
    "draw_plots": "report.plots",
    "encode_dataset": "cache",
    "evaluate_beir": "evaluate",
    "evaluate_codecs": "codecs",
    "evaluate_mmeb": "mmeb.runner",
    "evaluate_mteb": "mteb",
    "load_beir": "beir",
    "load_collection": "evaluate",
    "load_known_item": "known_item",
    "paired_comparison": "significance",
    "per_query_metrics": "metrics",
    "plot_codecs": "codecs",
    "print_table": "terminal",
    "rank": "metrics",
    "render_table": "terminal",
    "stable": "provenance",
    "write_json": "results",
}

__all__ = [*_HOMES]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
