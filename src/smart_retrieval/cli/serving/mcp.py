"""``smart mcp``: indexes as tools of an agent, over stdio."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import options
from ..options import IndexModel


def mcp(
    indexes: Annotated[
        list[str],
        typer.Argument(metavar="INDEX...", help="Folders of indexes or of shards, or NAME=FOLDER.", show_default=False),
    ],
    write: Annotated[bool, typer.Option("--write", help="Offer tools that add and delete, too.")] = False,
    where: options.Where = None,
    model: IndexModel = None,
) -> None:
    """Offer indexes as tools to an agent: an MCP server on stdin and stdout, started by the agent's program.

    Its tools search, get and list documents, list indexes and explain. With --where, nothing else is seen.
    """
    if write and where is not None:
        raise typer.BadParameter("--write and --where: a filter says what is seen, not what may be written")
    import anyio

    from ...server.access import Caller
    from ...server.mcp import create_mcp
    from ...server.service import Service
    from ...server.settings import ServerSettings

    caller = Caller(role="write" if write else "read", where=where, name="stdio")

    async def serve() -> None:
        async with Service(indexes, ServerSettings(read_only=not write, model=model)) as service:
            for name in service.catalog.paths:
                await service.info(caller, name)  # what cannot be opened or filtered ends here, with one line
            service.collector.pause()
            service.warm_up()
            await create_mcp(service, lambda request: caller, write=write).run_stdio_async()

    anyio.run(serve)
