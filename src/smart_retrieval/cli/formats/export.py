"""``smart export postgres``, ``qdrant`` and ``lancedb``: an index into a database."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..options import AsJson, IndexPath
from ..output import echo_json, plural


def postgres(
    dsn: Annotated[
        list[str],
        typer.Argument(
            metavar="DSN...",
            help="The database, such as postgresql://user@host/name, with pgvector; of several, each takes a share.",
        ),
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

    With several, each takes a share of the documents, and all have the codec and the calibration of INDEX.

    A password need not be on the command line: libpq reads PGPASSWORD and ~/.pgpass.
    """
    from ...stores.postgres.index import PostgresIndex

    with PostgresIndex.export(dsn, index_path, schema=schema, tenant_field=tenant_field, replace=replace) as exported:
        _report({"schema": schema, **exported.info()}, as_json)


def qdrant(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The server, such as http://localhost:6333; or a folder of the client.")
    ],
    index_path: IndexPath,
    collection: Annotated[str, typer.Option(help="The collection to make.")] = "smart",
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Keep token vectors, too, so that the server can compute scores.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Delete a collection of that name first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy INDEX into Qdrant: documents, anchors, codes, codec and statistics.

    An API key need not be on the command line: QDRANT_API_KEY is read.
    """
    from ...stores.qdrant.index import QdrantIndex

    with QdrantIndex.export(url, index_path, collection=collection, tokens=tokens, replace=replace) as exported:
        _report({"collection": collection, "tokens_stored": tokens, **exported.info()}, as_json)


def lancedb(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A folder, or a bucket such as s3://bucket/docs.")],
    index_path: IndexPath,
    table: Annotated[str, typer.Option(help="The table to make.")] = "smart",
    replace: Annotated[bool, typer.Option("--replace", help="Delete a table of that name first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy INDEX into LanceDB: documents, anchors, codes, codec and statistics."""
    from ...stores.lance.index import LanceIndex

    with LanceIndex.export(uri, index_path, table=table, replace=replace) as exported:
        _report({"table": table, **exported.info()}, as_json)


def _report(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(found)
    else:
        typer.echo(f"{found['path']}: {plural(found['documents'], 'document')}, codec {found['codec']}")
