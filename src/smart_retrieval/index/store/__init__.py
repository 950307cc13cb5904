"""The database of an index: documents, vectors, metadata and files in one SQLite file."""
