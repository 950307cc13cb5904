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
from urllib.parse import unquote

from .._version import __version__

if TYPE_CHECKING:
    from ..model.smart_model import SmartModel

#: Packages whose versions can change a figure.
PACKAGES = ("sentence-transformers", "torch", "transformers", "numpy")

#: Keys whose values differ between two runs of the same thing.
VOLATILE = frozenset(
    {
        *("run", "date", "report_generated_date"),
        *("seconds", "cached", "documents_per_second", "score_ms_per_query", "fit_seconds", "encode_seconds"),
    }
)

#: What stands in a command for what must not be written down.
MASK = "***"

# Options, settings and parameters of addresses with such a name carry a secret.
_SECRET_NAME = re.compile(
    r"(^|[-_.])(token|tokens|password|passwd|passphrase|secret|credentials?|auth|authorization|bearer|apikey|key|pat)$",
    re.IGNORECASE,
)
# Names that end in the same words and are none: counts of tokens, keys of something else.
_HARMLESS = re.compile(r"^-*(max|min|visual|max[-_]visual|num|n|query|document)[-_]tokens?$", re.IGNORECASE)
# What the usual services hand out, wherever it stands.
_ISSUED = re.compile(
    r"(hf_|api_org_|sk-|sk_|pk_|rk_|gh[opsur]_|github_pat_|glpat-|xox[a-z]-|npm_|pypi-|AKIA|ASIA|AIza|ya29\.|eyJ)"
    r"[A-Za-z0-9_\-.=]{12,}"
)
# A word of its own, long, with small and capital letters and digits: no file, no model, no commit looks like it.
_RANDOM = re.compile(
    r"(?<![A-Za-z0-9_\-+/.])(?=[^\s]*[a-z])(?=[^\s]*[A-Z])(?=[^\s]*\d)[A-Za-z0-9_\-+]{32,}={0,2}(?![\w./])"
)
_ADDRESS_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*://)[^/\s@]+@", re.IGNORECASE)
_PARAMETER = re.compile(r"(?P<mark>[?&;])(?P<name>[^=&;#\s]+)=(?P<value>[^&;#\s]*)")


def run_facts() -> dict[str, Any]:
    """Say when, where and by which command this runs; JSON-able.

    Returns:
        ``date`` (UTC), ``commit`` (of the checkout this package is run from, ``+changes`` where its files differ from
        it; None for an installed package, whose version says as much), ``machine`` and ``command`` (`command`).

    Example:
        >>> sorted(run_facts())
        ['command', 'commit', 'date', 'machine']
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": machine(),
        "command": command(),
    }


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Find the versions of all that can change a figure.

    Args:
        more: Further packages, by the name they are installed under.

    Example:
        >>> list(versions())
        ['smart_retrieval', 'python', 'sentence_transformers', 'torch', 'transformers', 'numpy']
    """
    found = {"smart_retrieval": __version__, "python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            found[package.replace("-", "_")] = "unknown"
    return found


def limits(smart: SmartModel) -> dict[str, int]:
    """How much of an input the model looks at: tokens, and visual tokens and frames where it knows them.

    Example:
        >>> limits(SmartModel("minilm"))  # doctest: +SKIP
        {'max_length': 256}
    """
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


# -- the command -----------------------------------------------------------------------------------------------


def command(arguments: Sequence[str] | None = None) -> str:
    """The command line, as a shell would take it, without secrets; of this process when none is given.

    The environment is never looked at. The user's folder is written as ``~``.

    Example:
        >>> command(["/usr/bin/smart", "eval", "beir", "my data", "--token", "abc"])
        "smart eval beir 'my data' --token ***"
    """
    given = list(sys.argv if arguments is None else arguments) or [""]
    program, rest = given[0], given[1:]
    start = ["python", program] if program in ("-c", "-m") or program.endswith(".py") else [Path(program).name]
    home = str(Path.home())
    shown = [_with_tilde(word, home) for word in [*start, *masked(rest)]]
    return " ".join(word if word.startswith("~/") or word == MASK else _quoted(word) for word in shown)


def masked(arguments: Sequence[str]) -> list[str]:
    """Arguments with everything that looks like a secret replaced by `MASK`.

    That is: the value of an option or setting whose name says so (``--token``, ``--api-key=…``, ``PASSWORD=…``), what
    the usual services issue (``hf_…``, ``sk-…``), long random words, the login in an address and its parameters of
    such a name.

    Example:
        >>> masked(["--api-key=abc", "--max-tokens", "256", "https://me:pw@host/?token=x"])
        ['--api-key=***', '--max-tokens', '256', 'https://***@host/?token=***']
    """
    found: list[str] = []
    hide_next = False
    for word in arguments:
        if hide_next and not (word.startswith("--") and len(word) > 2):
            found.append(MASK)
            hide_next = False
            continue
        name, equals, _ = word.partition("=")
        hide_next = not equals and word.startswith("-") and _is_secret(name)
        found.append(f"{name}={MASK}" if equals and _is_secret(name) else _without_secrets(word))
    return found


def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(unquote(name).lstrip("-"))) and not _HARMLESS.match(name)


def _without_secrets(word: str) -> str:
    word = _ADDRESS_LOGIN.sub(rf"\g<scheme>{MASK}@", word)
    word = _PARAMETER.sub(
        lambda match: f"{match['mark']}{match['name']}={MASK if _is_secret(match['name']) else match['value']}", word
    )
    # "Authorization: Bearer abc" as one word.
    header, colon, value = word.partition(":")
    if colon and value.strip() and _is_secret(header.strip()) and "/" not in header:
        return f"{header}: {MASK}"
    return _RANDOM.sub(MASK, _ISSUED.sub(MASK, word))


def _with_tilde(word: str, home: str) -> str:
    return word.replace(home, "~") if len(home) > 1 and (word == home or f"{home}/" in word) else word


def _quoted(word: str) -> str:
    # The mask needs no quotes to be read, and nobody will paste it back.
    return word if shlex.quote(word.replace(MASK, "")) == word.replace(MASK, "") else shlex.quote(word)


# -- the machine and the checkout ------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The machine: ``cpu``, ``cores``, ``memory_gib``, ``gpu`` (names, once torch is loaded), ``system``.

    Example:
        >>> machine()["cores"] >= 1
        True
    """
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
    # Whoever measured on a GPU has loaded torch; whoever has not must not wait for it.
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
