"""One reader a file format: text, Markdown, HTML, reStructuredText, PDF, JSON Lines."""
