"""Indexes in LanceDB, in a folder or a bucket, without a server."""
