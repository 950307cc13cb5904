"""``smart export postgres``: an index into a database."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import AsJson, IndexPath
from ..output import echo_json, plural


def postgres(
    dsn: Annotated[
        str, typer.Argument(metavar="DSN", help="The database, such as postgresql://user@host/name; with pgvector.")
    ],
    index_path: IndexPath,
    schema: Annotated[str, typer.Option(help="The PostgreSQL schema to make.")] = "smart",
    tenant_field: Annotated[
        str | None, typer.Option(help="Metadata field that names a document's tenant, for row-level security.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Delete what is in that schema first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy INDEX into a PostgreSQL database, in one transaction: documents, anchors, codes, codec and statistics.

    A password need not be on the command line: libpq reads PGPASSWORD and ~/.pgpass.
    """
    from ...stores.postgres.index import PostgresIndex

    with PostgresIndex.export(dsn, index_path, schema=schema, tenant_field=tenant_field, replace=replace) as exported:
        found = exported.info()
    if as_json:
        echo_json({"schema": schema, **found})
    else:
        typer.echo(f"{found['path']}: {plural(found['documents'], 'document')}, codec {found['codec']}")
