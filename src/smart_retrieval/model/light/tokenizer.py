"""A fast tokenizer without transformers, with what this package asks of one."""

from __future__ import annotations

from typing import Any

from ...backbones.tokenizing import TOKENIZING


class LightTokenizer:
    """The tokenizer of the library ``tokenizers`` under the names that transformers gives its methods.

    Args:
        json_text: Its ``tokenizer.json``, with the truncation that queries get.
        unk_token_id: The id of the unknown token.
    """

    def __init__(self, json_text: str, unk_token_id: int | None) -> None:
        from tokenizers import Tokenizer

        self.backend_tokenizer: Any = Tokenizer.from_str(json_text)
        self.backend_tokenizer.no_padding()
        self._truncation: dict[str, Any] | None = self.backend_tokenizer.truncation
        self.unk_token_id = unk_token_id

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> Any:
        """The encoding of a text, special tokens around it, cut off at the model's limit."""
        with TOKENIZING.held:
            return self.backend_tokenizer.encode(text)

    def full_length(self, text: str) -> int:
        """Tokens of a text, special tokens included, if nothing were cut off."""
        return len(self(text, add_special_tokens=True)["input_ids"])

    def __call__(
        self,
        text: str,
        *,
        add_special_tokens: bool = False,
        truncation: bool = False,
        verbose: bool = False,
        return_offsets_mapping: bool = False,
    ) -> dict[str, Any]:
        """A text's own tokens, as :func:`~smart_retrieval.backbones.tokenizing.tokenize` asks for them."""
        backend = self.backend_tokenizer
        with TOKENIZING.held:
            backend.no_truncation()
            try:
                encoding = backend.encode(text, add_special_tokens=add_special_tokens)
            finally:
                if self._truncation is not None:
                    backend.enable_truncation(**self._truncation)
        offsets = {"offset_mapping": encoding.offsets} if return_offsets_mapping else {}
        return {"input_ids": encoding.ids, **offsets}

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The vocabulary's string of an id, or the strings of several."""
        of = self.backend_tokenizer.id_to_token
        return of(int(ids)) if isinstance(ids, int) else [of(int(one)) for one in ids]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Tokens put together again."""
        decoder = self.backend_tokenizer.decoder
        text: str = decoder.decode(tokens) if decoder is not None else " ".join(tokens)
        return text
