"""``smart codec``, ``smart convert`` and ``smart export``."""
