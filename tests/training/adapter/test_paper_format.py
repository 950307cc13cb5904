"""The paper's adapter.pt, read."""

import pytest
import torch
from fixtures.tiny_models import HIDDEN

from smart_retrieval import Readout, SmartModel
from smart_retrieval.errors import ReadoutError
from smart_retrieval.training.adapter.paper_format import read_official


def official(width=5, layers=1, **changes):
    torch.manual_seed(0)
    module = {
        "proj.0.weight": torch.rand(HIDDEN) + 0.5,
        "proj.0.bias": torch.randn(HIDDEN),
        "proj.1.weight": torch.randn(width, HIDDEN),
    }
    if layers > 1:
        module["layer_weight_vectors"] = torch.randn(1, HIDDEN)
    return {
        "token_projection_module": module, "adapter_type": "token_projection", "use_last_n_layers": layers,
        "selected_layers": None, "anchor_dim": HIDDEN, "hidden_size": HIDDEN, "default_instruction": "Find it.",
        **changes,
    }  # fmt: skip


def reference(module, states):
    """The published formula, written out."""
    if "layer_weight_vectors" in module:
        v = module["layer_weight_vectors"][0]
        stacked = torch.stack(states)
        rms = stacked / (stacked.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        scores = (rms * (v / (v.square().mean() + 1e-6).sqrt())).sum(-1) / HIDDEN**0.5
        x = (scores.softmax(0).unsqueeze(-1) * stacked).sum(0)
    else:
        (x,) = states
    x = torch.nn.functional.layer_norm(x, (HIDDEN,), module["proj.0.weight"], module["proj.0.bias"])
    return torch.nn.functional.normalize(x @ module["proj.1.weight"].T, dim=-1)


@pytest.mark.parametrize("layers", [1, 2])
def test_an_official_adapter_gives_the_official_vectors(layers, tiny, tmp_path):
    saved = official(layers=layers)
    torch.save(saved, tmp_path / "adapter.pt")
    found = read_official(tmp_path / "adapter.pt")
    assert found.readout == Readout(tuple(range(-layers, 0)))
    assert (found.anchor_dim, found.instruction) == (HIDDEN, "Find it.")
    states = [torch.randn(7, HIDDEN) * (i + 1) for i in range(layers)]
    with torch.no_grad():
        ours = torch.nn.functional.normalize(found.adapter(states), dim=-1)
    torch.testing.assert_close(ours, reference(saved["token_projection_module"], states))
    model = SmartModel(tiny("mean"), device="cpu", readout=found.readout).with_adapter(found.adapter)
    model.save_adapter(tmp_path / "ours")
    assert SmartModel(tmp_path / "ours", device="cpu").encode_query("the otter").token_dim == 5


def official_mlp(width=5, inner=12, **changes):
    found = official(width)
    module = found["token_projection_module"]
    module["proj.4.weight"] = torch.randn(width, inner)
    module["proj.1.weight"] = torch.randn(inner, HIDDEN)
    return found | {
        "adapter_type": "mlp", "projection_type": "mlp", "residual_dim": width, "projection_mlp_hidden_dim": inner,
        "projection_mlp_dropout": 0.1, **changes,
    }  # fmt: skip


def official_attention(width=6, heads=2, blocks=2):
    found = official(width)
    for block in range(blocks):
        for name, shape in {
            "in_proj_weight": (3 * width, width), "in_proj_bias": (3 * width,), "out_proj.weight": (width, width),
            "out_proj.bias": (width,),
        }.items():  # fmt: skip
            found["token_projection_module"][f"self_attn_layers.{block}.{name}"] = torch.randn(shape)
        for name in ("weight", "bias"):
            found["token_projection_module"][f"self_attn_norms.{block}.{name}"] = torch.randn(width)
    return found | {
        "adapter_type": "token_self_attention", "residual_dim": width, "self_attn_num_heads": heads,
        "self_attn_num_layers": blocks, "self_attn_dropout": 0.0,
    }  # fmt: skip


def attended(found, x):
    """Attention of one input's tokens over one another, written out head by head; the sum is normed afterwards."""
    module, heads, width = found["token_projection_module"], found["self_attn_num_heads"], found["residual_dim"]
    for block in range(found["self_attn_num_layers"]):
        own = {name.removeprefix(f"self_attn_layers.{block}."): value for name, value in module.items()}
        q, k, v = (x @ own["in_proj_weight"].T + own["in_proj_bias"]).chunk(3, dim=-1)
        size, mixed = width // heads, []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            shares = (q[:, part] @ k[:, part].T / size**0.5).softmax(dim=-1)
            mixed.append(shares @ v[:, part])
        x = x + torch.cat(mixed, dim=-1) @ own["out_proj.weight"].T + own["out_proj.bias"]
        norm = [module[f"self_attn_norms.{block}.{name}"] for name in ("weight", "bias")]
        x = torch.nn.functional.layer_norm(x, (width,), *norm)
    return x


@pytest.mark.parametrize("kind", ["linear", "residual", "mlp", "self-attention"])
def test_every_official_kind_gives_the_official_vectors(kind, tiny, tmp_path):
    made = {"linear": official, "residual": lambda: official(adapter_type="residual", projection_type="linear"),
            "mlp": official_mlp, "self-attention": official_attention}[kind]()  # fmt: skip
    torch.save(made, tmp_path / "adapter.pt")
    found, module = read_official(tmp_path / "adapter.pt"), made["token_projection_module"]
    assert found.adapter.config.kind == {"residual": "linear"}.get(kind, kind)
    states, lengths = torch.randn(9, HIDDEN), [4, 0, 2, 3]
    with torch.no_grad():
        ours = torch.nn.functional.normalize(found.adapter([states], torch.tensor(lengths)), dim=-1)
    x = torch.nn.functional.layer_norm(states, (HIDDEN,), module["proj.0.weight"], module["proj.0.bias"])
    x = x @ module["proj.1.weight"].T
    if kind == "mlp":
        x = (x * 0.5 * (1 + torch.erf(x / 2**0.5))) @ module["proj.4.weight"].T
    if kind == "self-attention":
        x = torch.cat([attended(made, own) for own in x.split(lengths)])
    torch.testing.assert_close(ours, torch.nn.functional.normalize(x, dim=-1), rtol=0, atol=1e-5)
    # Of a whole model: alone or in a batch, saved or not, by itself or as Sentence Transformers' model.
    model = SmartModel(tiny("mean"), device="cpu", readout=found.readout).with_adapter(found.adapter)
    texts = ["the otter swims in the cold river", "tax is due", "a"]
    whole = model.encode_document(texts)
    model.save_adapter(tmp_path / "ours")
    again = SmartModel(tmp_path / "ours", device="cpu")
    assert again.adapter.config == found.adapter.config
    for number, text in enumerate(texts):
        alone = again.encode_document(text).token_vectors
        torch.testing.assert_close(torch.tensor(alone), torch.tensor(whole[number].token_vectors), rtol=0, atol=1e-5)
    packed = model.encoder.encode_document(texts, convert_to_numpy=True)
    rows = -(-model.anchor_dim // max(model.token_dim, 1)) if model.token_dim < model.anchor_dim else 1
    for number, matrix in enumerate(packed):
        torch.testing.assert_close(
            torch.tensor(matrix[rows:]), torch.tensor(whole[number].token_vectors), rtol=0, atol=1e-5
        )


def test_layers_are_counted_as_in_the_authors_training(tmp_path):
    torch.save(official(layers=2, selected_layers=[0, 2]), tmp_path / "adapter.pt")
    assert read_official(tmp_path / "adapter.pt").readout.layers == (1, 3)
    torch.save(official(layers=2, selected_layers=[-1, -2]), tmp_path / "adapter.pt")
    assert read_official(tmp_path / "adapter.pt").readout.layers == (-1, -2)


def test_the_adapter_file_is_found_in_the_authors_folders(tmp_path):
    (tmp_path / "last_1" / "epoch_2").mkdir(parents=True)
    torch.save(official(), tmp_path / "last_1" / "epoch_2" / "adapter.pt")
    assert read_official(tmp_path).adapter.config.width == 5
    with pytest.raises(ReadoutError, match=r"no adapter\.pt"):
        read_official(tmp_path / "elsewhere")


class Trap:
    def __reduce__(self):
        return (open, ("/tmp/smart-trap-ran", "w"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, r"unknown keys \['extra'\]"),
        ({"adapter_type": "lora"}, "type 'lora' with .* expected one of linear"),
        ({"adapter_type": "self_attention", "projection_type": "mlp"}, "over an MLP"),
        ({"projection_type": "mlp"}, r"no matrix proj\.4"),
        ({"residual_dim": 9}, "residual_dim 9 beside weights for 5"),
        ({"hidden_size": 7}, "hidden_size 7"),
        ({"token_projection_module": {"proj.0.weight": torch.ones(HIDDEN)}}, r"no matrix"),
        ({"token_projection_module": {"proj.1.weight": torch.ones(3, HIDDEN)}}, "missing"),
        ({"token_projection_module": {**official()["token_projection_module"], "b": torch.ones(5)}}, "weights 'b'"),
        ({"token_projection_module": official(layers=2)["token_projection_module"]}, "beside one layer"),
        ({"token_projection_module": [1]}, "no state dict"),
        ({"use_last_n_layers": 2}, "missing"),
        ({"use_last_n_layers": "two"}, "whole number"),
        ({"anchor_dim": Trap()}, "weights alone"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_unknown_contents_are_refused(change, message, tmp_path):
    import os

    torch.save(official(**change), tmp_path / "adapter.pt")
    with pytest.raises(ReadoutError, match=message):
        read_official(tmp_path / "adapter.pt")
    assert not os.path.exists("/tmp/smart-trap-ran")
    (tmp_path / "adapter.pt").write_bytes(b"no pickle")
    with pytest.raises(ReadoutError, match=r"weights alone \(\w+\), expected an adapter.pt$"):
        read_official(tmp_path / "adapter.pt")
