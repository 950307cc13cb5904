"""A small Qwen3-VL embedding model: its configuration, its tokenizer, and the folder they are saved in."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from smart_retrieval.demo.glyph_pages import COLOURS, SHAPES, WORDS

INSTRUCTION = "Represent the user's input."
SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# The Qwen3-VL chat format without tools and thinking: system, user and assistant turns, images and videos as content.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' or 'video' in part -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def build_tokenizer() -> Qwen2Tokenizer:
    """Train a byte-level BPE on the words in play, so that each of them is one token and any text has some."""
    words = [
        *COLOURS,
        *SHAPES,
        *WORDS,
        *("system", "user", "assistant", "Represent", "the", "input", "page", "with", "and", "a", "an", "of"),
    ]
    texts = [before + word for word in words for before in ("", " ")] + [",", ", ", ".", "'s", "\n", "\n\n"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    learned = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIALS[1:]),
        model_max_length=4096,
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_config(tokenizer: Qwen2Tokenizer, **changes: Any) -> Qwen3VLConfig:
    """The shape of the model: 3 vision and 3 text layers, 64 dimensions, DeepStack after the first vision layer."""
    token = tokenizer.convert_tokens_to_ids
    width = changes.pop("vision_width", 96)
    depth, dimensions = changes.pop("depth", 3), changes.pop("dimensions", 64)
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": dimensions,
            "intermediate_size": 384,
            "num_hidden_layers": changes.pop("layers", 3),
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "initializer_range": changes.pop("init", 0.05),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5]},
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": depth,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_heads": width // 32,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": dimensions,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
            "initializer_range": changes.pop("vision_init", 0.05),
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        **changes,
    )


def initialise(model: Qwen3VLModel) -> None:
    """Start with attention that keeps directions: what it moves from one token to another stays what it was.

    A language model gets such a shared space from its pretraining. From random projections a model this small finds it
    late, because a pooled loss does not require it, and passes the first plateau of the loss later, too.
    """
    with torch.no_grad():
        for layer in model.language_model.layers:
            torch.nn.init.orthogonal_(layer.self_attn.v_proj.weight)
            layer.self_attn.o_proj.weight.copy_(layer.self_attn.v_proj.weight.T)
            layer.mlp.down_proj.weight.mul_(0.2)
        model.language_model.embed_tokens.weight.normal_(std=0.3)


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Qwen3-VL's preprocessing, for pages of 1 to 256 visual tokens."""
    return Qwen2VLImageProcessorPil(
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        size={"shortest_edge": 32 * 32, "longest_edge": 256 * 32 * 32},
    )


def save_checkpoint(folder: Path, model: Qwen3VLModel, tokenizer: Qwen2Tokenizer) -> None:
    """Write what a published Qwen3-VL embedding model holds, with weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.to(torch.float16).save_pretrained(folder)
    model.float().load_state_dict(kept)
    tokenizer.save_pretrained(folder)
    pixels = build_image_processor().to_dict()
    frames = {
        **{key: pixels[key] for key in ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")},
        "video_processor_type": "Qwen3VLVideoProcessor",
        "size": {"shortest_edge": 4 * 32 * 32, "longest_edge": 1024 * 32 * 32},
        "fps": 2,
        "min_frames": 4,
        "max_frames": 64,
        "processor_class": "Qwen3VLProcessor",
    }
    # The name Qwen publishes, of the class that needs torchvision; AutoImageProcessor takes its PIL twin without.
    pixels |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen3VLProcessor"}
    state = {"method": "forward", "method_output_name": "last_hidden_state"}
    message = {**state, "format": "structured"}
    described: dict[str, Any] = {
        "preprocessor_config.json": pixels,
        "video_preprocessor_config.json": frames,
        "modules.json": [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.{kind}"}
            for n, (path, kind) in enumerate(
                [
                    ("", "base.modules.transformer.Transformer"),
                    ("1_Pooling", "sentence_transformer.modules.pooling.Pooling"),
                    ("2_Normalize", "base.modules.normalize.Normalize"),
                ]
            )
        ],
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": state, "image": state, "video": state, "message": message},
            "module_output_name": "token_embeddings",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
            "unpad_inputs": False,
        },
        "1_Pooling/config.json": {
            "embedding_dimension": model.config.text_config.hidden_size,
            "pooling_mode": "lasttoken",
            "include_prompt": True,
        },
        "2_Normalize/config.json": {
            "module_input_name": "sentence_embedding",
            "module_output_name": "sentence_embedding",
        },
        "config_sentence_transformers.json": {
            "__version__": {
                "pytorch": version("torch"),
                "sentence_transformers": version("sentence-transformers"),
                "transformers": version("transformers"),
            },
            "default_prompt_name": None,
            "model_type": "SentenceTransformer",
            "prompts": {"document": INSTRUCTION, "query": INSTRUCTION},
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in described.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
