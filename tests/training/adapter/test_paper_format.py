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
        ({"adapter_type": "lora"}, "expected 'token_projection'"),
        ({"hidden_size": 7}, "hidden_size 7"),
        ({"token_projection_module": {"proj.0.weight": torch.ones(HIDDEN)}}, r"no matrix"),
        ({"token_projection_module": {"proj.1.weight": torch.ones(3, HIDDEN)}}, "missing"),
        ({"token_projection_module": {**official()["token_projection_module"], "b": torch.ones(5)}}, r"\['b'\]"),
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
    with pytest.raises(ReadoutError, match="weights alone"):
        read_official(tmp_path / "adapter.pt")
