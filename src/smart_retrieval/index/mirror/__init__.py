"""Memory-mapped copies of an index's vectors, derived from the database and rebuilt when stale."""
