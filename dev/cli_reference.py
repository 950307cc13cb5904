"""Print the command line reference, docs/cli.md, from the commands themselves.

python dev/cli_reference.py > docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from smart_retrieval.cli.main import app

WIDTH = 100
INTRODUCTION = """\
# Command line

`smart` exits with status 0 on success, 1 with one line on stderr for an error, and 2 for wrong usage. Data goes to
stdout; progress and warnings go to stderr, and are hidden when it is not a terminal. Most commands take `--json`.
`python -m smart_retrieval` is the same as `smart`.

This page is generated from the commands' help by `python dev/cli_reference.py > docs/cli.md`; a test compares it.
"""


def commands(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of all below it, in the order of the help."""
    widths = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = command.context_class(command, info_name=name, parent=parent, color=False, **widths)
    yield context.command_path, command.get_help(context)
    if hasattr(command, "list_commands"):
        for child in command.list_commands(context):
            yield from commands(command.get_command(context, child), child, context)


def reference() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for path, text in commands(typer.main.get_command(app), "smart"):
        lines = "\n".join(line.rstrip() for line in text.splitlines())
        parts.append(f"## {path}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
