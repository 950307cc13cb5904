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
    from .cache import Encoding as Encoding
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
    from .mmeb.run import MmebOptions as MmebOptions
    from .mmeb.run import evaluate_mmeb as evaluate_mmeb
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
    from .results import MmebResult as MmebResult
    from .results import MtebResult as MtebResult
    from .results import write_json as write_json
    from .significance import Comparison as Comparison
    from .significance import paired_comparison as paired_comparison
    from .terminal import print_table as print_table
    from .terminal import render_table as render_table

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "beir": ("BeirDataset", "load_beir"),
        "cache": ("Encoding", "EncodingCache", "encode_dataset"),
        "codecs": ("evaluate_codecs", "plot_codecs"),
        "compare": ("compare_beir",),
        "evaluate": ("Collection", "EvalOptions", "evaluate_beir", "load_collection"),
        "known_item": ("load_known_item",),
        "metrics": ("METRICS", "per_query_metrics", "rank"),
        "mmeb.run": ("MmebOptions", "evaluate_mmeb"),
        "mteb": ("IndexSearch", "SmartSearch", "evaluate_mteb"),
        "provenance": ("stable",),
        "report.plots": ("draw_plots",),
        "report.report": ("Report", "build_report"),
        "results": ("BeirResult", "CodecsResult", "CompareResult", "MmebResult", "MtebResult", "write_json"),
        "significance": ("Comparison", "paired_comparison"),
        "terminal": ("print_table", "render_table"),
    },
)
