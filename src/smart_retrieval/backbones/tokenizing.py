"""One tokenizer at a time: every call sets truncation and padding in the tokenizer itself, for itself alone."""

from __future__ import annotations

from typing import Any

from ..locks import ForkLock

#: Held around whatever calls a tokenizer, directly or through a processor. One for all, as models share tokenizers.
TOKENIZING = ForkLock()


def tokenize(tokenizer: Any, text: str | list[str], **options: Any) -> Any:
    """Texts' own tokens, from any thread: no special tokens, nothing cut off, no warning of their length."""
    with TOKENIZING.held:
        return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False, **options)
