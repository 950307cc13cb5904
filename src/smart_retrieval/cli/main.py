"""The ``smart`` command: its subcommands, and errors as one line with an exit status."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from .._version import __version__
from ..errors import SmartError, SmartWarning
from . import delete, demo, explain, index, info, inspect, optimize, search, train, verify
from .formats import codec, convert, export
from .measure import eval_beir, eval_layers, eval_mmeb, eval_mteb, probe, report, tune
from .output import Stopped, printable, stop_on_signals
from .scale import backup, encode, merge, split
from .serving import mcp, serve


def _group(help: str, **commands: Callable[..., None]) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=help)
    group.callback()(lambda: None)  # so that the command of a group of one keeps its name
    for name, command in commands.items():
        group.command(name)(command)
    return group


eval_app = _group(
    "Measure anchor, late and hybrid ranking on judged collections.",
    beir=eval_beir.beir, mmeb=eval_mmeb.mmeb, layers=eval_layers.layers, mteb=eval_mteb.mteb,
)  # fmt: skip
train_app = _group(
    "Post-training: an adapter over a frozen model, or LoRA and full fine-tuning.",
    adapter=train.adapter, finetune=train.finetune,
)  # fmt: skip

app = typer.Typer(
    name="smart",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Any single-vector embedding model as a hybrid single- and multi-vector retriever.",
)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("explain")(explain.explain)
app.command("serve", context_settings={"auto_envvar_prefix": "SMART_SERVE"})(serve.serve)
app.command("info")(info.info)
app.command("delete")(delete.delete)
app.command("optimize")(optimize.optimize)
app.command("verify")(verify.verify)
app.command("mcp")(mcp.mcp)
app.command("encode")(encode.encode)
app.command("backup")(backup.backup)
app.command("split")(split.split)
app.command("merge")(merge.merge)
app.add_typer(eval_app, name="eval")
app.command("probe")(probe.probe)
app.command("tune")(tune.tune)
app.command("report")(report.report)
app.add_typer(train_app, name="train")
app.add_typer(_group("Convert from other formats.", official=convert.official), name="convert")
app.add_typer(
    _group(
        "Export to other formats.",
        st=convert.st,
        postgres=export.postgres,
        qdrant=export.qdrant,
        lancedb=export.lancedb,
    ),
    name="export",
)
app.add_typer(_group("A codec that several indexes and stores share.", fit=codec.fit, info=codec.info), name="codec")
app.command("inspect")(inspect.inspect)
app.command("demo")(demo.demo)


_debug = False
_SIGPIPE = 13  # which Windows does not name


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smart-retrieval {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="SMART_DEBUG", help="Show where an error was raised, for a report.")
    ] = False,
) -> None:
    global _debug
    _debug = debug


def main() -> None:
    """Run ``smart``: exit status 0 for success, 1 for a named error (one line on stderr), 2 for wrong usage.

    130 and 143 are for a run that Ctrl-C or SIGTERM stopped, 141 for one whose output nobody reads any more (`| head`).
    """
    stop_on_signals()
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, TextIOWrapper):
        # What the terminal's encoding lacks, and names of files that are no text, in escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed (`>&-`)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    stdout, opened = sys.stdout, _stdout()
    try:
        try:
            app()
        finally:
            # Typer and rich put something else in its place when the pipe is closed, and exit with status 1.
            if sys.stdout is not stdout or _stdout() != opened:
                raise BrokenPipeError
            stdout.flush()
    except SmartError as error:
        _fail(str(error))
    except Stopped as stopped:
        print(f"smart: stopped: {stopped.note}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except BrokenPipeError:
        # Python would report it again while closing stdout. The status is what a shell gives a program in C.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        sys.exit(128 + _SIGPIPE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except Exception as error:
        if "No space left on device" in str(error):  # from libraries with errors of their own
            _fail(f"the disk is full ({error})")
        hint = "" if _debug else ": please report it with the output of the same command with smart --debug"
        _fail(f"an unexpected {type(error).__name__} ({str(error)[:300]}){hint}")


def _stdout() -> object:
    """What stdout leads to."""
    with suppress(OSError, ValueError):  # it may be no file
        status = os.fstat(sys.stdout.fileno())
        return status.st_dev, status.st_ino
    return None


def _fail(message: str) -> None:
    if _debug:
        traceback.print_exc()
    print(f"smart: error: {' '.join(printable(message).split())}", file=sys.stderr)
    sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    # Ours are for the user, in a log file too; those of other libraries are for developers.
    if issubclass(category, SmartWarning):
        print(f"smart: warning: {printable(str(message))}", file=sys.stderr)
