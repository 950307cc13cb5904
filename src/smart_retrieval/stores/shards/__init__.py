"""One index over several servers."""
