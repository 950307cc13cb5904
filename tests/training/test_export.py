"""A stock multi-vector model, written."""

import numpy as np
import pytest
import torch
from fixtures.tiny_models import HIDDEN, TEXTS

from smart_retrieval import Readout, SmartModel
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.errors import UnsupportedModelError
from smart_retrieval.training.export import export_multi_vector_encoder


def exportable(path, width=None, **readout):
    model = SmartModel(path, device="cpu", readout=Readout(**readout))
    if width is None:
        return model
    torch.manual_seed(0)
    adapter = Adapter(AdapterConfig(HIDDEN, width))
    with torch.no_grad():
        adapter.norm.weight.copy_(torch.rand(HIDDEN) + 0.5)
    return model.with_adapter(adapter)


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder", "decoder-prompts", "dense-half"])
@pytest.mark.parametrize("width", [None, 5])
def test_a_stock_model_gives_the_same_token_vectors_and_scores(name, width, tiny, tmp_path):
    from sentence_transformers import MultiVectorEncoder

    model = exportable(tiny(name), width)
    export_multi_vector_encoder(model, tmp_path / "st")
    stock = MultiVectorEncoder(str(tmp_path / "st"), device="cpu")
    vectors = {}
    for task in ("query", "document"):
        ours = getattr(model, f"encode_{task}")(TEXTS)
        vectors[task] = getattr(stock, f"encode_{task}")(TEXTS)
        for i, found in enumerate(vectors[task]):
            assert np.abs(np.asarray(found) - ours[i].token_vectors).max() < 1e-5
    from smart_retrieval import late_scores

    wanted = late_scores(model.encode_query(TEXTS), model.encode_document(TEXTS))
    assert np.abs(np.asarray(stock.similarity(vectors["query"], vectors["document"])) - wanted).max() < 1e-5


def test_models_that_stock_modules_cannot_express_are_refused(tiny, tiny_vlm, tmp_path):
    biased = exportable(tiny("mean"), 5)
    with torch.no_grad():
        biased.adapter.norm.bias += 0.1
    cases = {
        "bias": biased,
        "layers": exportable(tiny("mean"), layers=(-2,)),
        "drops prompt": exportable(tiny("prompts"), token_filter="content"),
        "'mlp'": exportable(tiny("mean")).with_adapter(Adapter(AdapterConfig(HIDDEN, 5, kind="mlp"))),
        "looks at more": exportable(tiny("mean"), token_filter="paper-pooled"),
        "renders": SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu"),
    }
    for reason, model in cases.items():
        with pytest.raises(UnsupportedModelError, match=reason):
            export_multi_vector_encoder(model, tmp_path / "st")
    assert not (tmp_path / "st").exists()
    # Without a prompt there is nothing that the two filters treat differently.
    export_multi_vector_encoder(exportable(tiny("mean"), token_filter="content"), tmp_path / "st")
