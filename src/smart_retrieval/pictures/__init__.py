"""Images, pages of PDFs and videos as what a model looks at.

Nothing here loads what a file refers to, or runs what it holds.
"""
