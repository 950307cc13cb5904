"""Where a figure comes from: model, limits, versions, commit, machine, command and date, the same in every result file.

What differs between two runs of the same thing (date, machine, command) lies under the one key ``run``, so that results
can be compared without it; see `stable`.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from .results import RunFacts

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

PACKAGES = ("sentence-transformers", "torch", "transformers", "numpy")  #: packages whose versions can change a figure

#: Keys whose values differ between two runs of the same thing.
VOLATILE = (
    *("run", "date", "report_generated_date"),
    *("seconds", "cached", "documents_per_second", "score_ms_per_query", "fit_seconds", "encode_seconds"),
)

MASK = "***"  #: what replaces a secret in a command

# Names of options, variables, headers and parameters whose value is a secret; --max-tokens and the like count tokens.
_SECRET_NAME = re.compile(
    r"(?!(max|min|num|n|query|document|(max[-_])?visual)[-_]tokens?$)(.*[-_.])?"
    r"(tokens?|password|passwd|passphrase|secret|credentials?|auth|authorization|bearer|apikey|key|pat)",
    re.IGNORECASE,
)
# Secrets known by their looks, wherever they stand: what the usual services issue; and long words of small letters,
# capital letters and digits, which no file, model or commit is named.
_SECRET_WORD = re.compile(
    r"(hf_|api_org_|sk-|sk_|pk_|rk_|gh[opsur]_|github_pat_|glpat-|xox[a-z]-|npm_|pypi-|AKIA|ASIA|AIza|ya29\.|eyJ)"
    r"[A-Za-z0-9_\-.=]{12,}"
    r"|(?<![A-Za-z0-9_\-+/.])(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9_\-+]{32,}={0,2}(?![\w./])"
)
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_PARAMETER = re.compile(r"([?&;])([^=&;#\s]+)=[^&;#\s]*")


def run_facts() -> RunFacts:
    """When, where and by which command this runs; an installed package has no commit, its version says as much."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": machine(),
        "command": command(),
    }


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of all that can change a figure, and of further packages by the names they are installed under."""
    found = {"smart_retrieval": __version__, "python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            found[package.replace("-", "_")] = "unknown"
    return found


def limits(smart: SmartModel) -> dict[str, int]:
    """How much of an input the model looks at: tokens, and visual tokens and frames where it knows them."""
    identity = smart.identity()
    known = {"max_length": smart.max_length}
    known |= {name: identity.get(name) for name in ("max_visual_tokens", "max_frames")}
    return {name: int(value) for name, value in known.items() if value is not None}


def stable(value: Any) -> Any:
    """A result without what differs between two runs of the same thing (`VOLATILE`), at any depth.

    Example:
        >>> stable({"map": 0.5, "run": {"date": "today"}, "encode": {"seconds": 1.2, "max_length": 256}})
        {'map': 0.5, 'encode': {'max_length': 256}}
    """
    if isinstance(value, dict):
        return {key: stable(one) for key, one in value.items() if key not in VOLATILE}
    return [stable(one) for one in value] if isinstance(value, list | tuple) else value


def command(arguments: Sequence[str] | None = None) -> str:
    """A command line, or this process's, as a shell would take it: without secrets, the user's folder as ``~``."""
    given = list(sys.argv if arguments is None else arguments) or [""]
    program, home = given[0], str(Path.home())
    start = ["python", program] if program in ("-c", "-m") or program.endswith(".py") else [Path(program).name]
    shown = []
    for word in [*start, *masked(given[1:])]:
        if len(home) > 1 and (word == home or f"{home}/" in word):
            word = word.replace(home, "~")
        # ~ and the mask stay as they are, to be read.
        shown.append(word if word.startswith("~/") or word == MASK else _quoted(word))
    return " ".join(shown)


def _quoted(word: str) -> str:
    return word if shlex.quote(bare := word.replace(MASK, "")) == bare else shlex.quote(word)


def masked(arguments: Sequence[str]) -> list[str]:
    """Arguments with everything that looks like a secret replaced by `MASK`.

    That is: the value of an option, variable or header whose name says so (``--token``, ``--api-key=…``,
    ``PASSWORD=…``), what the usual services issue (``hf_…``, ``sk-…``), long random words, the login in an address and
    its parameters of such a name.
    """
    shown: list[str] = []
    value_is_secret = False
    for word in arguments:
        if value_is_secret and not (word.startswith("--") and len(word) > 2):
            shown.append(MASK)
            value_is_secret = False
            continue
        name, equals, _ = word.partition("=")
        value_is_secret = not equals and word.startswith("-") and _is_secret(name)
        shown.append(f"{name}={MASK}" if equals and _is_secret(name) else _without_secrets(word))
    return shown


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name.strip().lstrip("-")) is not None


def _without_secrets(word: str) -> str:
    header, colon, value = word.partition(":")
    if colon and value.strip() and _is_secret(header):  # "Authorization: Bearer abc" as one word
        return f"{header}: {MASK}"
    word = _LOGIN.sub(f"{MASK}@", word)
    word = _PARAMETER.sub(lambda found: f"{found[1]}{found[2]}={MASK}" if _is_secret(found[2]) else found[0], word)
    return _SECRET_WORD.sub(MASK, word)


def machine() -> dict[str, Any]:
    """The machine, in words."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": _gpus(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError, OSError):
        return None


def _gpus() -> list[str]:
    # A measurement on a GPU has loaded torch already; nothing else needs to wait for it.
    torch = sys.modules.get("torch")
    try:
        return [str(torch.cuda.get_device_name(place)) for place in range(torch.cuda.device_count())] if torch else []
    except (AttributeError, RuntimeError, AssertionError):
        return []


@cache
def commit() -> str | None:
    """The commit of the checkout this package is run from, ``+changes`` where its files differ; None without one."""
    here = Path(__file__).resolve().parents[1]
    # An installed package may lie in a checkout of something else, whose commit says nothing of it.
    if _git(here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    name, changes = _git(here, "rev-parse", "--short", "HEAD"), _git(here, "status", "--porcelain", ".")
    return None if name is None else name + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, cwd=folder, timeout=20, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
