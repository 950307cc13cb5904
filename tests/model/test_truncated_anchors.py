"""Anchors of fewer dimensions (Matryoshka): what Sentence Transformers gives, and who must know of it."""

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from smart_retrieval import Readout, Scoring, SmartIndex, SmartModel
from smart_retrieval.cli.main import app
from smart_retrieval.core.adapter import Adapter, AdapterConfig
from smart_retrieval.errors import IndexMismatchError, ReadoutError

TEXTS = ["the otter swims in the cold river", "tax is due", "bread and butter"]


def opened(folder, **options):
    return SmartModel(folder, device="cpu", readout=Readout(), **options)


@pytest.mark.parametrize("name", ["mean", "prompts", "decoder", "dense-wide", "chat"])
@pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")
def test_the_anchor_is_sentence_transformers_and_tokens_keep_their_width(name, tiny):
    whole, cut = opened(tiny(name)), opened(tiny(name), truncate_dim=8)
    mine, before = cut.encode_document(TEXTS), whole.encode_document(TEXTS)
    theirs = SentenceTransformer(str(tiny(name)), device="cpu", truncate_dim=8).encode_document(TEXTS)
    np.testing.assert_allclose(mine.anchors, theirs, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(mine.token_vectors, before.token_vectors)
    assert (cut.anchor_dim, cut.token_dim, cut.identity()["truncate_dim"]) == (8, whole.token_dim, 8)
    assert "truncate_dim" not in whole.identity()
    unit = mine.anchors / np.linalg.norm(mine.anchors, axis=1, keepdims=True)
    alone = cut.similarity(mine, mine, scoring=Scoring(lambda_late=0.0))
    np.testing.assert_allclose(alone, unit @ unit.T, rtol=0, atol=1e-6)


def test_a_checkpoint_that_says_so_itself(tiny, tmp_path):
    folder = shutil.copytree(tiny("mean"), tmp_path / "m")
    SentenceTransformer(str(folder), device="cpu", truncate_dim=8).save_pretrained(str(tmp_path / "st"))
    assert json.loads((tmp_path / "st/config_sentence_transformers.json").read_text())["truncate_dim"] == 8
    model = opened(tmp_path / "st")
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(model.encode_document(TEXTS).anchors, theirs, rtol=0, atol=1e-6)
    assert opened(tmp_path / "st", truncate_dim=4).anchor_dim == 4


def test_it_is_saved_with_the_model_and_with_an_adapter(tiny, tmp_path):
    model = opened(tiny("mean"), truncate_dim=8)
    model.save_pretrained(tmp_path / "m")
    torch.manual_seed(0)
    model.with_adapter(Adapter(AdapterConfig(model.state_dim, 5))).save_adapter(tmp_path / "a")
    for folder in (tmp_path / "m", tmp_path / "a"):
        again = SmartModel(folder, device="cpu")
        np.testing.assert_array_equal(again.encode_query(TEXTS).anchors, model.encode_query(TEXTS).anchors)
    plain = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode_query(TEXTS)
    np.testing.assert_allclose(plain, model.encode_query(TEXTS).anchors, rtol=0, atol=1e-6)


def test_the_multi_vector_encoder_carries_the_shortened_anchor(tiny):
    model = opened(tiny("mean"), truncate_dim=8)
    (first, *_), *_ = model.encoder.encode_document(TEXTS, convert_to_numpy=True)
    expected = model.encode_document(TEXTS).anchors[0]
    found = first[:8] / np.linalg.norm(first[:8])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=0, atol=1e-5)
    assert not first[8:].any()


def test_an_index_knows_its_width(tiny, tmp_path):
    with SmartIndex.create(tmp_path / "i", opened(tiny("mean"), truncate_dim=8)) as index:
        index.add(TEXTS)
        best = index.search("otter")[0]
    with SmartIndex.open(tmp_path / "i") as index:  # by its recorded name
        assert index.model.anchor_dim == 8
        assert index.search("otter")[0].score == pytest.approx(best.score)
    for model in (opened(tiny("mean")), opened(tiny("mean"), truncate_dim=4)):
        with pytest.raises(IndexMismatchError, match=r"model\.truncate_dim is 8, not (None|4)"):
            SmartIndex.open(tmp_path / "i", model=model)
    with SmartIndex.create(tmp_path / "whole", opened(tiny("mean"))) as index:
        index.add(TEXTS)
    with pytest.raises(IndexMismatchError, match=r"model\.truncate_dim is None, not 8"):
        SmartIndex.open(tmp_path / "whole", model=opened(tiny("mean"), truncate_dim=8))


@pytest.mark.parametrize("dim", [0, -1, 10_000])
def test_widths_that_cannot_be(dim, tiny):
    with pytest.raises(ReadoutError, match=f"truncate_dim: found {dim}, expected at"):
        opened(tiny("mean"), truncate_dim=dim)


def test_a_visual_model(tiny_vlm, tmp_path):
    folder = tiny_vlm("qwen3-vl-embedding")
    cut, whole = opened(folder, truncate_dim=16), opened(folder)
    np.testing.assert_array_equal(cut.encode_query(TEXTS).anchors, whole.encode_query(TEXTS).anchors[:, :16])
    cut.save_pretrained(tmp_path / "m")
    assert SmartModel(tmp_path / "m", device="cpu").anchor_dim == 16
    with pytest.raises(ReadoutError, match="expected at most"):
        opened(folder, truncate_dim=9999)


def test_inspect_says_it(tiny):
    found = CliRunner().invoke(app, ["inspect", str(tiny("mean")), "--truncate-dim", "8", "--json"])
    about = json.loads(found.stdout)
    assert (about["anchor_dim"], about["truncate_dim"]) == (8, 8)
    assert about["token_dim"] > 8
    found = CliRunner().invoke(app, ["inspect", str(tiny("mean")), "--truncate-dim", "8"])
    assert "8 dimensions, the first of more" in found.stdout
