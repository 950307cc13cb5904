"""Two-stage search: candidates by anchor, hybrid scores from the codes."""
