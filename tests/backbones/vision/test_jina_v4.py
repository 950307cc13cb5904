"""jina-embeddings-v4, merged: means over the words or over the picture, against plain transformers."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from smart_retrieval import Readout, SmartModel
from smart_retrieval.errors import UnsupportedModelError

SIDES = {"query": "Query: ", "document": "Passage: "}


@pytest.fixture(scope="module")
def folder(tiny_vlm, tmp_path_factory):
    target = tmp_path_factory.mktemp("jina") / "jina-embeddings-v4-vllm-retrieval"
    shutil.copytree(tiny_vlm("bare-qwen25"), target)
    return target


@pytest.fixture(scope="module")
def model(folder):
    return SmartModel(folder, device="cpu", readout=Readout())


@pytest.fixture(scope="module")
def plain(folder):
    from transformers import AutoTokenizer, Qwen2_5_VLModel

    return Qwen2_5_VLModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def unit(vector):
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize("side", SIDES)
def test_a_text_is_the_mean_of_all_its_states(side, model, plain):
    network, tokenizer = plain
    encode = model.encode_query if side == "query" else model.encode_document
    texts = ["a red circle", "two blue squares beside a green star"]
    encoded = encode(texts)
    for index, text in enumerate(texts):
        ids = tokenizer(f"{SIDES[side]}{text}", return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            states = network(input_ids=ids).last_hidden_state[0]
        np.testing.assert_allclose(encoded.anchors[index], unit(states.mean(dim=0)), atol=1e-5)
        expected = torch.nn.functional.normalize(states, dim=-1).numpy()
        np.testing.assert_allclose(encoded[index].token_vectors, expected, atol=1e-5)


def test_a_picture_is_the_mean_from_its_start_to_its_end(model, plain):
    network, tokenizer = plain
    side = 28
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (2 * side, 3 * side, 3), np.uint8))
    encoded = model.encode_document(["text beside it", picture])
    pads = "<|image_pad|>" * 6
    text = f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>Describe the image.<|im_end|>\n"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    pixels = model.backbone.preprocess([picture], prompt=None, task="document")
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    with torch.inference_mode():
        states = network(
            input_ids=ids,
            pixel_values=pixels["pixel_values"],
            image_grid_thw=torch.tensor([[1, 4, 6]]),
            mm_token_type_ids=(ids == image).long(),
        ).last_hidden_state[0]
    start, end = (
        ids[0].tolist().index(tokenizer.convert_tokens_to_ids(f"<|vision_{name}|>")) for name in ("start", "end")
    )
    np.testing.assert_allclose(encoded.anchors[1], unit(states[start : end + 1].mean(dim=0)), atol=1e-5)
    assert np.abs(encoded.anchors[1] - unit(states.mean(dim=0))).max() > 1e-3


def test_the_adapters_apart_are_refused(folder, tmp_path):
    import json

    other = tmp_path / "jina-embeddings-v4"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    config["architectures"] = ["JinaEmbeddingsV4Model"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match="merged checkpoints"):
        SmartModel(other, device="cpu")
