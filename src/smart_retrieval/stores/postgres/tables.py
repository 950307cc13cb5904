"""The tables of an index in PostgreSQL, in a schema of its own.

An anchor is there twice: as ``halfvec`` of unit length, which finds candidates, and as it was encoded, in float32, from
which their cosines are computed. ``blob`` is what :meth:`~smart_retrieval.Codec.encode_blobs` makes of a document. Both
lie in the row itself as long as it fits a page, so that reading a candidate is reading one page.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...errors import StoreError
from .connections import tenant_role

if TYPE_CHECKING:
    from psycopg import Connection, sql

FORMAT = 1
MOST_DIMENSIONS = 16_000  # of a halfvec
MOST_INDEXED = 4_000  # of a halfvec in an HNSW index

_TABLES = """
CREATE TABLE manifest (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE codec (one int PRIMARY KEY CHECK (one = 1), hash text NOT NULL, data bytea STORAGE EXTERNAL NOT NULL);
CREATE TABLE state (
    one int PRIMARY KEY CHECK (one = 1), format int NOT NULL, number bigint NOT NULL, documents bigint NOT NULL,
    tokens bigint NOT NULL, tenant_field text, updated timestamptz NOT NULL
);
CREATE TABLE idf (token int PRIMARY KEY, df bigint NOT NULL);
CREATE TABLE documents (
    rowid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" {tenant},
    added bigint NOT NULL,
    source text COLLATE "C",
    page bigint,
    heading text COLLATE "C",
    metadata jsonb NOT NULL,
    text text NOT NULL,
    media jsonb,
    thumbnail bytea STORAGE EXTERNAL,
    anchor halfvec({dim}) NOT NULL,
    exact bytea STORAGE EXTERNAL NOT NULL,
    blob bytea STORAGE EXTERNAL NOT NULL,
    UNIQUE NULLS NOT DISTINCT (id, tenant)
) WITH (toast_tuple_target = 8160);
CREATE INDEX documents_source ON documents (source);
"""
_TENANTS = """
CREATE INDEX documents_tenant ON documents (tenant);
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON documents
    USING (tenant = current_setting('smart.tenant', true)) WITH CHECK (tenant = current_setting('smart.tenant', true));
"""


def create(
    connection: Connection[Any], schema: str, anchor_dim: int, tenant_field: str | None, *, replace: bool
) -> None:
    """Make the schema and its tables, within a transaction."""
    from psycopg import errors, sql

    if anchor_dim > MOST_DIMENSIONS:
        raise StoreError(f"found anchors of {anchor_dim} dimensions, expected at most the {MOST_DIMENSIONS} of halfvec")
    (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
    if encoding != "UTF8":
        raise StoreError(f"found a database in {encoding}, expected UTF8")
    name = sql.Identifier(schema)
    if replace:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    except (errors.DuplicateSchema, errors.UniqueViolation) as error:  # the latter of one made at the same time
        raise StoreError(f"schema {schema!r}: found one of that name; take another, or replace it") from error
    connection.execute(sql.SQL("SET search_path TO {}, {}").format(name, _vector_schema(connection)))
    tenant: sql.Composable = sql.SQL("")
    if tenant_field is not None:
        tenant = sql.SQL("GENERATED ALWAYS AS (metadata ->> {}) STORED").format(sql.Literal(tenant_field))
    connection.execute(sql.SQL(_TABLES).format(dim=sql.Literal(anchor_dim), tenant=tenant))
    if tenant_field is not None:
        _secure(connection, schema)


def prepare(connection: Connection[Any], schema: str, *, tenants: bool) -> None:
    """Make what several indexes have in common, unless another has made it: pgvector, and the server's tenant role."""
    from psycopg import errors, sql

    role, name = sql.Identifier(tenant_role(schema)), tenant_role(schema)
    wanted: list[sql.SQL | sql.Composed] = [sql.SQL("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")]
    if tenants and not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
        wanted.append(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
    if tenants:
        wanted.append(sql.SQL("GRANT {} TO CURRENT_USER").format(role))
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('smart'))")  # another may be making the same
    for statement in wanted:
        # Even now, in another database of the server.
        with suppress(errors.DuplicateObject, errors.UniqueViolation), connection.transaction():
            connection.execute(statement)
    if tenants:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(_vector_schema(connection), role))


def _vector_schema(connection: Connection[Any]) -> sql.Identifier:
    """Where pgvector is."""
    from psycopg import sql

    (name,) = connection.execute(
        "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'vector'"
    ).fetchone() or ("",)
    return sql.Identifier(name)


def _secure(connection: Connection[Any], schema: str) -> None:
    """Row-level security by tenant, for the role of tenants."""
    from psycopg import sql

    role = sql.Identifier(tenant_role(schema))
    connection.execute(sql.SQL(_TENANTS))
    for grant in (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT INSERT, DELETE ON documents TO {role}",
        "GRANT INSERT, UPDATE, DELETE ON idf TO {role}",
        "GRANT UPDATE ON state TO {role}",
    ):
        connection.execute(sql.SQL(grant).format(schema=sql.Identifier(schema), role=role))


def index_anchors(connection: Connection[Any], anchor_dim: int) -> None:
    """Make the HNSW index; of vectors too wide for one there is none, and every search is exact."""
    if anchor_dim <= MOST_INDEXED:
        connection.execute(
            "CREATE INDEX IF NOT EXISTS documents_anchor ON documents USING hnsw (anchor halfvec_ip_ops)"
        )
