"""Shards served by Ray Serve: a front that asks replicas of every shard."""
