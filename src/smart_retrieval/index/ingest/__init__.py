"""Files and items into an index."""
