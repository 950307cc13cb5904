"""The forward pass of `Qwen3VLModel` for pages of one size: the same weights and the same numbers, less overhead.

`transformers` runs the vision tower image by image. Here all pages of a batch go through it at once, and the chat
template's opening, which is the same for every input, is computed once a batch: with causal attention nothing after it
changes it. `check` compares the result with `transformers`' own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from checkpoint import INSTRUCTION
from torch import Tensor, nn
from transformers import Qwen2Tokenizer, Qwen3VLModel
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

MERGE = 2


class PageModel(nn.Module):
    """States of pages (``grid``: rows and columns of 16-pixel patches) and queries, without the template's opening."""

    def __init__(self, model: Qwen3VLModel, tokenizer: Qwen2Tokenizer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.grid = grid
        self.opening = tokenizer(f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n").input_ids
        self.closing = tokenizer("<|im_end|>\n<|im_start|>assistant\n").input_ids
        self.visual_tokens = grid[0] * grid[1] // MERGE**2
        token = tokenizer.convert_tokens_to_ids
        self.pad_id = token("<|endoftext|>")
        self.page_ids = [token("<|vision_start|>"), *[token("<|image_pad|>")] * self.visual_tokens]
        self.page_ids += [token("<|vision_end|>"), *self.closing]
        thw = torch.tensor([[1, *grid]])
        visual = model.visual
        indices, weights = get_vision_interpolation_indices_and_weights(
            thw,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=MERGE,
            kwargs={},
        )
        self._indices, self._weights = indices, weights[:, :, None]
        places = get_vision_position_ids(thw, MERGE, kwargs={})
        self._vision_rope = visual.rotary_pos_emb(torch.zeros(1), places)
        whole = torch.tensor([self.opening + self.page_ids])
        kinds = (whole == model.config.image_token_id).int()
        page_places, _ = model.get_rope_index(whole, kinds, image_grid_thw=thw)
        # Text after a page goes on from the page's last place.
        after = page_places[..., -1:] + torch.arange(1, 257)
        self._page_rope = self._rope(torch.cat([page_places, after], -1))
        self._text_rope = self._rope(torch.arange(256).view(1, 1, -1))

    def _rope(self, places: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.model.language_model.rotary_emb(torch.zeros(1), places)
        return cos[:, None], sin[:, None]

    def pages(self, pixels: Tensor, *, pooled: bool = False) -> Tensor:
        """Final states ``[B, T, d]`` of pages from `to_patches`: vision start, image tokens, vision end, closing.

        If pooled the last state alone, ``[B, d]``, which is all that training with the pooled vector needs.
        """
        return self._read_pages(pixels, None, pooled)

    def descriptions(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """For unpadded texts ``[B, T]`` that follow pages, as an assistant's turn does, the state before each token."""
        first = len(self.page_ids) - 1
        return self._read_pages(pixels, ids[:, :-1], False)[:, first:]

    def queries(self, ids: Tensor, *, pooled: bool = False) -> Tensor:
        """Final states ``[B, T, d]`` of text, closing, then padding, which causal attention hides from both.

        If pooled the last state alone, ``[B, d]``; there must be no padding then.
        """
        return self._read(self.model.language_model.embed_tokens(ids), self._text_rope, None, pooled)

    def opening_states(self) -> Tensor:
        """``[T, d]`` final states of the opening, which all inputs share."""
        states, _ = self._open()
        return self.model.language_model.norm(states)[0]

    def _read_pages(self, pixels: Tensor, after: Tensor | None, pooled: bool) -> Tensor:
        tokens, deep = self._see(pixels)
        embed = self.model.language_model.embed_tokens
        around = embed(torch.tensor(self.page_ids)).expand(len(pixels), -1, -1)
        end = 1 + self.visual_tokens
        texts = [] if after is None else [embed(after)]
        inputs = torch.cat([around[:, :1], tokens, around[:, end:], *texts], 1)
        deep = F.pad(deep, (0, 0, 1, inputs.shape[1] - end))
        return self._read(inputs, self._page_rope, deep, pooled)

    def _see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        visual = self.model.visual
        batch, patches, _ = pixels.shape
        projection = visual.patch_embed.proj
        # A still image fills both frames of a temporal patch, so its two kernels are added first.
        kernel = projection.weight.sum(2).flatten(1)
        x = F.linear(pixels.float() / 127.5 - 1, kernel, projection.bias)
        x = x + (visual.pos_embed(self._indices) * self._weights).sum(1)
        cos, sin = self._vision_rope
        deep = None
        for number, block in enumerate(visual.blocks):
            heads = block.attn.num_heads
            qkv = block.attn.qkv(block.norm1(x)).view(batch, patches, 3, heads, -1).permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(_rotate(qkv[0], cos, sin), _rotate(qkv[1], cos, sin), qkv[2])
            x = x + block.attn.proj(seen.transpose(1, 2).reshape(batch, patches, -1))
            x = x + block.mlp(block.norm2(x))
            if number in visual.deepstack_visual_indexes:
                deep = _merge(visual.deepstack_merger_list[0], x)
        assert deep is not None
        return _merge(visual.merger, x), deep

    def _open(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        language = self.model.language_model
        x = language.embed_tokens(torch.tensor([self.opening]))
        count = len(self.opening)
        rope = tuple(part[:, :, :count] for part in self._text_rope)
        kept = []
        for layer in language.layers:
            q, k, v = _project(layer, x, rope)
            kept.append((k, v))
            x = _finish(layer, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x, kept

    def _read(self, x: Tensor, rope: Any, deep: Tensor | None, pooled: bool) -> Tensor:
        language = self.model.language_model
        batch, length, _ = x.shape
        before = len(self.opening)
        rope = tuple(part[:, :, before : before + length] for part in rope)
        mask = torch.ones(length, before + length, dtype=torch.bool).tril(before)
        _, opened = self._open()
        for number, layer in enumerate(language.layers):
            q, k, v = _project(layer, x, rope)
            k, v = (
                torch.cat([old.expand(batch, -1, -1, -1), new], 2)
                for old, new in zip(opened[number], (k, v), strict=True)
            )
            if pooled and number == len(language.layers) - 1:
                # Nothing reads the other positions any more.
                x = _finish(layer, x[:, -1:], F.scaled_dot_product_attention(q[:, :, -1:], k, v))
                return _rms(language.norm, x[:, 0])
            x = _finish(layer, x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
            if number == 0 and deep is not None:
                x = x + deep
        return _rms(language.norm, x)


def to_patches(pixels: Tensor) -> Tensor:
    """Cut pages ``[B, height, width, 3]`` into patches ``[B, patches, 3 * 16 * 16]`` as Qwen3-VL's processor does.

    Still in uint8 and with one frame instead of two; the four patches of a visual token follow one another.
    """
    batch, height, width, _ = pixels.shape
    cut = pixels.view(batch, height // 32, MERGE, 16, width // 32, MERGE, 16, 3)
    return cut.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(batch, -1, 768).contiguous()


def check(fast: PageModel, patches: Tensor, ids: Tensor) -> float:
    """Largest difference between these states and those of `transformers`, for some pages and some unpadded texts."""
    model, count = fast.model, len(patches)
    whole = torch.tensor([fast.opening + fast.page_ids]).expand(count, -1)
    frames = (patches.float() / 127.5 - 1).view(count, -1, 3, 1, 256).expand(-1, -1, -1, 2, -1)

    def of_pages(ids: Tensor) -> Tensor:
        states: Tensor = model(
            input_ids=ids,
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            pixel_values=frames.reshape(-1, 1536),
            image_grid_thw=torch.tensor([[1, *fast.grid]] * count),
        ).last_hidden_state
        model.rope_deltas = None  # or the next call would continue from here
        return states

    with torch.no_grad():
        slow_pages = of_pages(whole)
        texts = torch.cat([torch.tensor([fast.opening]).expand(len(ids), -1), ids], 1)
        slow_texts = model(input_ids=texts).last_hidden_state
        text = ids[:1].expand(count, -1)
        slow_descriptions = of_pages(torch.cat([whole, text], 1))
        before = len(fast.opening)
        differences = [
            (slow_pages[:, before:] - fast.pages(patches)).abs().max(),
            (slow_texts[:, before:] - fast.queries(ids)).abs().max(),
            (slow_texts[0, :before] - fast.opening_states()).abs().max(),
            (slow_pages[:, -1] - fast.pages(patches, pooled=True)).abs().max(),
            (slow_texts[:, -1] - fast.queries(ids, pooled=True)).abs().max(),
            (slow_descriptions[:, -text.shape[1] - 1 : -1] - fast.descriptions(patches, text)).abs().max(),
        ]
    return float(max(differences))


def _rms(norm: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def _merge(merger: Any, x: Tensor) -> Tensor:
    return merger(x.reshape(-1, x.shape[-1])).view(len(x), x.shape[1] // MERGE**2, -1)


def _project(layer: Any, x: Tensor, rope: Any) -> tuple[Tensor, Tensor, Tensor]:
    attention, (batch, length, _) = layer.self_attn, x.shape
    normed = _rms(layer.input_layernorm, x)

    def heads(projection: nn.Module) -> Tensor:
        return projection(normed).view(batch, length, -1, attention.head_dim)

    q = _rms(attention.q_norm, heads(attention.q_proj)).transpose(1, 2)
    k = _rms(attention.k_norm, heads(attention.k_proj)).transpose(1, 2)
    return _rotate(q, *rope), _rotate(k, *rope), heads(attention.v_proj).transpose(1, 2)


def _finish(layer: Any, x: Tensor, attended: Tensor) -> Tensor:
    x = x + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
    return x + layer.mlp(_rms(layer.post_attention_layernorm, x))
