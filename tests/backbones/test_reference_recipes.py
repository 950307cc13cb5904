"""The references themselves: against the library's processors and position rules, and that they would notice a loss."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_recipes import END, RECIPES, START, Input, patches_of
from vlm_items import film, inputs, picture, times

HERE = Path(__file__).parent
# Not in site-packages: with it there, no process could import transformers beside the CPU build of torch.
TORCHVISION = Path(os.environ.get("SMART_TORCHVISION", Path(sys.prefix) / "torchvision"))
ARCHITECTURES = ("qwen3-vl-embedding", "gme", "lamra-qwen25")
KINDS = tuple(inputs(16))


@pytest.fixture(scope="module")
def recipe(tiny_vlm):
    """``recipe(name, **options)``: a reference over a tiny checkpoint, opened once."""
    opened = {}

    def open_one(name, **options):
        key = (name, *sorted(options.items()))
        if key not in opened:
            opened[key] = RECIPES[name](tiny_vlm(name.removesuffix("-upstream")), **options)
        return opened[key]

    return open_one


# -- against the library's processors ----------------------------------------------------------------------------


def processors_say(out, **folders):
    """What processors, position rules and Sentence Transformers say, by family, from a process with torchvision."""
    if not TORCHVISION.exists():
        pytest.skip(f"no torchvision: pip install --no-deps --target {TORCHVISION} torchvision")
    paths = [str(TORCHVISION), str(HERE.parent), str(HERE)]
    pairs = [f"{name}={folder}" for name, folder in folders.items()]
    done = subprocess.run(
        [sys.executable, str(HERE / "torchvision_check.py"), str(out), *pairs],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {name: dict(np.load(out / f"{name}.npz")) for name in folders}
    assert all(bool(one["torchvision"]) for one in found.values())
    return found


@pytest.fixture(scope="module")
def processed(tiny_vlm, tmp_path_factory):
    return processors_say(tmp_path_factory.mktemp("processed"), **{name: tiny_vlm(name) for name in ARCHITECTURES})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_ids_pixels_and_positions_are_the_processors(name, kind, recipe, processed):
    # The processor of today puts the dated frames inside one pair more.
    reference = recipe(name, positions="mrope", outer_pair=True)
    reference.middle_frame = False  # the processor takes whole videos
    item = inputs(reference.patch)[kind]
    mine, theirs = reference.encode(item), processed[name]
    assert mine.input_ids == theirs[f"{kind}/ids"].tolist()
    for key, groups in (("pixel_values", [[one] for one in item.images]), ("pixel_values_videos", [item.frames])):
        sizes = reference.size_frames if key.endswith("videos") else lambda group: [reference.size_image(group[0])]
        groups = [group for group in groups if group]
        if groups:
            patches = [patches_of(sizes(group), reference.patch, reference.mean, reference.std)[0] for group in groups]
            np.testing.assert_allclose(np.concatenate(patches), theirs[f"{kind}/{key}"], rtol=0, atol=3e-7)
    if item.images or item.frames:
        assert np.array_equal(mine.positions.numpy(), theirs[f"{kind}/positions"])


@pytest.mark.parametrize("kind", ["text", "image", "image-text", "video"])
def test_sentence_transformers_own_path_gives_the_same_anchor(kind, recipe, processed):
    reference = recipe("qwen3-vl-embedding", outer_pair=True)
    mine = reference.encode(inputs(reference.patch)[kind]).anchor
    theirs = processed["qwen3-vl-embedding"][f"{kind}/sentence-transformer"]
    np.testing.assert_allclose(mine.numpy(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "lamra", "lamra-qwen25", "lamra-qwen3", "lamra-qwen3-upstream"])
def test_strings_are_the_chat_templates(name, recipe):
    """The strings written out in the references are what the repositories' templates render."""
    import json

    reference = recipe(name)
    folder = Path(reference.tokenizer.name_or_path)
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    item = inputs(reference.patch)["images-text"]
    rendered = reference.render(item)
    user = [{"type": "image"}] * len(item.images)
    if name == "qwen3-vl-embedding":
        opening = [{"role": "system", "content": [{"type": "text", "text": "Represent the user's input."}]}]
        messages = [*opening, {"role": "user", "content": [*user, {"type": "text", "text": item.text}]}]
    else:
        assert item.text[0].isupper()
        assert item.text[-1] == "."
        what = "sentence" if name == "lamra-qwen3" else "image and sentence"
        asked = f"{item.text}\nSummarize above {what} in one word: "
        messages = [{"role": "user", "content": [*user, {"type": "text", "text": asked}]}]
        messages += [{"role": "assistant", "content": [{"type": "text", "text": "<emb>."}]}]
    assert rendered == reference.tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )


# -- what they would notice --------------------------------------------------------------------------------------


def moved(one, other):
    return (one.anchor - other.anchor).abs().max().item()


@pytest.mark.parametrize("kind", ["image", "image-text", "images", "video"])
@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "gme", "lamra-qwen25", "vlm2vec-v2"])
def test_dropping_the_positions_of_pictures_moves_the_anchor(name, kind, recipe):
    spatial, flat = recipe(name, positions="mrope"), recipe(name, positions="sequential")
    item = inputs(spatial.patch)[kind]
    assert moved(spatial.encode(item), flat.encode(item)) > 1e-3
    text = inputs(spatial.patch)["text"]
    assert moved(spatial.encode(text), flat.encode(text)) == 0


@pytest.mark.parametrize("kind", ["image", "image-text", "images", "video"])
@pytest.mark.parametrize("name", ["qwen3-vl-embedding", "lamra-qwen3"])
def test_dropping_deepstack_moves_the_anchor(name, kind, recipe):
    item = inputs(16)[kind]
    assert moved(recipe(name, deepstack=True).encode(item), recipe(name, deepstack=False).encode(item)) > 1e-3


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "jina-v4-merged"])
def test_pixels_order_of_pictures_and_instruction_move_the_anchor(name, recipe):
    reference = recipe(name)
    item = Input("Two.", images=(picture(160, 96, 1), picture(160, 96, 2)), query=True)
    plain = reference.encode(item)
    swapped = reference.encode(Input("Two.", images=item.images[::-1], query=True))
    other = reference.encode(Input("Two.", images=(item.images[0], picture(160, 96, 3)), query=True))
    asked = reference.encode(Input("Two.", images=item.images, instruction="Find the page.", query=True))
    assert min(moved(plain, one) for one in (swapped, other, asked)) > 1e-3


def test_the_outer_pair_of_todays_processor_moves_a_video_and_nothing_else(recipe):
    published, todays = recipe("qwen3-vl-embedding"), recipe("qwen3-vl-embedding", outer_pair=True)
    video = published.encode(Input(frames=film(384), times=times(4)))
    assert f"<|im_start|>user\n<0.2 seconds>{START}" in video.rendered
    assert f"{END}<1.2 seconds>{START}" in video.rendered
    assert moved(video, todays.encode(Input(frames=film(384), times=times(4)))) > 1e-3
    image = Input(images=(picture(160, 96),))
    assert moved(published.encode(image), todays.encode(image)) == 0


def test_lamra_reads_the_state_before_emb_whose_own_id_plays_no_part(recipe):
    without, within = recipe("lamra"), recipe("lamra-emb")
    item = inputs(14)["image-text"]
    one, other = without.encode(item), within.encode(item)
    assert torch.equal(one.anchor, other.anchor)
    emb = one.input_ids.index(without.emb)
    assert without.tokenizer.convert_ids_to_tokens(one.input_ids[emb - 1]) == "Ċ"
