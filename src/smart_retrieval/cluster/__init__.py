"""Many documents encoded, and many shards served, by one process or by a Ray cluster."""
