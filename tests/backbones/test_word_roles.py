"""Words, punctuation and unknown tokens of every kind of vocabulary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.backbones.word_roles import WordRoles, says_something
from smart_retrieval.core.roles import TokenRole

X, UNK, PUNCT, GOES_ON = TokenRole.TEXT, TokenRole.UNKNOWN, TokenRole.PUNCTUATION, TokenRole.CONTINUATION


def byte_fallback():
    """A vocabulary with ▁ for blanks and a token for every byte, as Llama's and Gemma's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    pieces += [("▁", -2.0), ("▁sea", -1.0), ("s", -3.0), (".", -3.0), ("▁!", -3.0), ("世", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def roles_in(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    roles = WordRoles(tokenizer, frozenset())(np.array(ids, np.int64))
    return [*zip(tokenizer.convert_ids_to_tokens(ids), roles.tolist(), strict=True)]


@pytest.mark.parametrize(
    "text", ["C++", "#", "R&D", "50%", "@", "$", "😀", "世", "か", "ё", "①", "½", "é", "a.", "\ufffd"]
)
def test_what_says_something(text):
    assert says_something(text)


@pytest.mark.parametrize("text", ["", " \n", "?!…", "— “”", "。、", "`", "^", "_", "\u200d", "\ufe0f", "(*)", "¿"])
def test_what_says_nothing(text):
    assert not says_something(text)


@given(st.text(), st.text())
def test_what_says_something_says_it_in_any_surroundings(text, more):
    assert says_something(text + more) == (says_something(text) or says_something(more))


def test_word_pieces(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("mean"))
    assert roles_in(tokenizer, "otters, ☃ don't") == [
        ("otter", X), ("##s", GOES_ON), (",", PUNCT), ("[UNK]", UNK),
        ("do", X), ("##n", GOES_ON), ("'", PUNCT), ("t", X),
    ]  # fmt: skip


def test_the_mark_of_a_word_piece_is_no_symbol():
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast(vocab={"[UNK]": 0, "[PAD]": 1, "##.": 2, "##s": 3, "#": 4})
    assert WordRoles(tokenizer, frozenset({1}))(np.arange(5)).tolist() == [UNK, X, PUNCT, GOES_ON, X]


def test_what_follows_no_word_begins_one():
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast(vocab={"[UNK]": 0, "[PAD]": 1, "a": 2, "##s": 3, "(": 4})
    roles = WordRoles(tokenizer, frozenset({1}))
    found = np.array([[X, X, X, X], [TokenRole.PROMPT, X, X, TokenRole.SPECIAL]], np.uint8)
    roles.fill(found, np.array([[3, 3, 4, 3], [2, 3, 3, 1]]))
    assert found.tolist() == [[X, GOES_ON, PUNCT, X], [TokenRole.PROMPT, X, GOES_ON, TokenRole.SPECIAL]]
    empty = np.zeros((2, 0), np.uint8)
    roles.fill(empty, np.zeros((2, 0), np.int64))


def sentencepiece():
    """A vocabulary with a mark on what begins a word, as XLM-R's and Gemma's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ("<unk>", "▁a", "▁sea", "horse", "s", "++", "世", "ไทย", "▁", "2")
    tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=0))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_words_of_vocabularies_that_mark_their_beginning():
    assert roles_in(sentencepiece(), "a seahorses") == [("▁a", X), ("▁sea", X), ("horse", GOES_ON), ("s", GOES_ON)]
    assert roles_in(sentencepiece(), "a22") == [("▁a", X), ("2", GOES_ON), ("2", GOES_ON)]


def test_symbols_and_scripts_without_blanks_are_words_of_their_own():
    assert roles_in(sentencepiece(), "a++") == [("▁a", X), ("++", X)]
    assert roles_in(sentencepiece(), "世世ไทย") == [("▁", PUNCT), ("世", X), ("世", X), ("ไทย", X)]


def test_bytes_that_are_no_whole_character_are_words(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("decoder"))
    assert roles_in(tokenizer, "the sea?\n")[-3:] == [("Ġsea", X), ("?", PUNCT), ("Ċ", PUNCT)]
    pieces = roles_in(tokenizer, "😀")
    assert len(pieces) > 1
    assert {role for _, role in pieces} == {X}


def test_byte_tokens_of_a_sentencepiece_vocabulary():
    tokenizer = byte_fallback()
    assert roles_in(tokenizer, "sea .") == [("▁sea", X), ("▁", PUNCT), (".", PUNCT)]
    assert roles_in(tokenizer, "sea\n世é") == [("▁sea", X), ("<0x0A>", PUNCT), ("世", X), ("<0xC3>", X), ("<0xA9>", X)]
    assert roles_in(tokenizer, "!") == [("▁!", PUNCT)]


def test_added_tokens_and_ids_beyond_the_vocabulary(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("decoder"))
    roles = WordRoles(tokenizer, frozenset())
    assert roles(np.zeros((2, 0), np.int64)).shape == (2, 0)
    before = len(tokenizer)
    roles(np.array([3]))
    tokenizer.add_tokens(["<emb>", "…!…"])
    assert roles(np.array([[before, before + 1], [before + 5000, 3]])).tolist() == [
        [X, PUNCT],
        [PUNCT, roles(np.array([3]))[0]],
    ]


def test_an_unknown_token_that_is_special_too_stays_special(smart):
    backbone = smart("decoder-eos-is-unk").backbone
    assert backbone.tokenizer.unk_token_id in backbone.special_ids
    rendered = backbone.rendered("the sea <|endoftext|>", prompt=None, task="query")
    assert {role for token, role in rendered if token == "<|endoftext|>"} == {TokenRole.SPECIAL}


def test_each_id_is_judged_once(tiny, monkeypatch):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("mean"))
    roles, asked = WordRoles(tokenizer, frozenset()), []
    judge = roles._role_of
    monkeypatch.setattr(roles, "_role_of", lambda token: asked.append(token) or judge(token))
    ids = np.array(tokenizer("the sea, the sea and the moon.", add_special_tokens=False)["input_ids"])
    first, second = roles(ids), roles(ids[::-1])
    assert np.array_equal(first, second[::-1])
    assert sorted(asked) == sorted(set(ids.tolist()))
