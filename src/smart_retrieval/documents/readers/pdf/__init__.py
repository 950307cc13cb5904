"""PDF text, page by page, with pypdfium2 (extra ``pdf``): nothing but pip to install, and Chrome's own PDF engine.

`extract` asks PDFium for runs of text with their places; everything else is plain Python on these.
"""

from .read import read as read
from .words import Word as Word
from .words import find_words as find_words
from .words import page_words as page_words

__all__ = ["Word", "find_words", "page_words", "read"]
