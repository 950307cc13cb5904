"""One index in several parts, searched together."""
