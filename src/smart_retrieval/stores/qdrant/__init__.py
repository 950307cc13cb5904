"""Indexes in Qdrant, with codes as payload or with token vectors that the server scores."""
