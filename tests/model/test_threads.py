"""One model used by many threads: every result is what it is alone."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fixtures.tiny_models import TEXTS
from PIL import Image

from smart_retrieval import Readout, SmartModel

pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")

THREADS = 8
DEEP = Readout(layers=(-2, -1), mix="concat")


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("anchors", "token_vectors", "offsets", "token_ids", "roles")
    )


def at_once(call, inputs):
    """What the call gives for each input, from threads that all start at the same moment."""
    barrier = threading.Barrier(THREADS)

    def work(number):
        barrier.wait()
        return {at: call(inputs[at]) for at in range(number % 3, len(inputs))}

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.mark.parametrize("name", ["mean", "chat"])
@pytest.mark.parametrize("readout", [Readout(), DEEP], ids=["last", "deep"])
def test_texts(name, readout, tiny):
    model = SmartModel(tiny(name), device="cpu", readout=readout)
    # Long ones are counted with the limit off, short ones cut to it: both settings of one tokenizer.
    inputs = [*TEXTS, " ".join(TEXTS), "the " * 200]
    alone = [model.encode_document(text) for text in inputs]
    for found in at_once(model.encode_document, inputs):
        assert all(same(alone[at], one) and alone[at].report == one.report for at, one in found.items())


def test_pictures(tiny_vlm):
    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", readout=DEEP)
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 255, (64, 96, 3), np.uint8)) for _ in range(3)]
    inputs = [*TEXTS[:4], *pictures, {"text": "an <|im_start|> otter", "image": pictures[0]}]
    alone = [model.encode_query(item) for item in inputs]
    for found in at_once(model.encode_query, inputs):
        assert all(same(alone[at], one) for at, one in found.items())


def test_readouts_of_one_backbone_beside_each_other(tiny):
    last = SmartModel(tiny("mean"), device="cpu", readout=Readout())
    deep = last.with_readout(DEEP)
    models = [last, deep] * (THREADS // 2)
    alone = {id(model): model.encode_document(TEXTS) for model in (last, deep)}
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda model: [model.encode_document(TEXTS) for _ in range(5)], models))
    assert all(same(alone[id(model)], one) for model, results in zip(models, found, strict=True) for one in results)


def test_asyncio(tiny):
    model = SmartModel(tiny("mean"), device="cpu", readout=DEEP)
    alone = [model.encode_query(text) for text in TEXTS]

    async def all_of_them():
        return await asyncio.gather(*(asyncio.to_thread(model.encode_query, text) for text in TEXTS))

    assert all(same(one, other) for one, other in zip(alone, asyncio.run(all_of_them()), strict=True))


def test_the_stock_encoder_beside_the_model(tiny):
    model = SmartModel(tiny("mean"), device="cpu", readout=DEEP)
    alone, stock = model.encode_document(TEXTS), model.encoder.encode_document(TEXTS)

    def work(number):
        return model.encoder.encode_document(TEXTS) if number % 2 else model.encode_document(TEXTS)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(2 * THREADS)))
    assert all(same(alone, one) for one in found[::2])
    assert all(np.array_equal(a, b) for one in found[1::2] for a, b in zip(stock, one, strict=True))


def test_similarity_and_calibration(tiny):
    model = SmartModel(tiny("mean"), device="cpu")
    queries, documents = model.encode_query(TEXTS[:3]), model.encode_document(TEXTS)
    alone = model.similarity(queries, documents)
    fresh = SmartModel(tiny("mean"), device="cpu")
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda _: fresh.similarity(queries, documents), range(THREADS)))
    assert all(np.array_equal(alone, one) for one in found)


def test_saving_does_not_disturb_encoding_and_keeps_the_config(tiny, tmp_path):
    import json

    folder = tiny("mean")
    model = SmartModel(folder, device="cpu", readout=DEEP)
    with ThreadPoolExecutor(THREADS) as pool:
        encoded = [pool.submit(model.encode_document, TEXTS) for _ in range(THREADS)]
        model.save_pretrained(tmp_path / "saved")
        assert len([one.result() for one in encoded]) == THREADS
    assert not json.loads((tmp_path / "saved" / "config.json").read_text()).get("output_hidden_states")


def test_the_verbosity_of_transformers_is_what_it_was(tiny):
    from transformers.utils import logging

    before = logging.get_verbosity()
    model = SmartModel(tiny("mean"), device="cpu")
    at_once(lambda text: model.backbone.token_count(text, prompt=None), TEXTS[:6])
    assert logging.get_verbosity() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_lock_held_while_the_process_forks_is_free_in_the_child():
    from smart_retrieval.locks import ForkLock

    lock, held, done = ForkLock(), threading.Event(), threading.Event()

    def hold():
        with lock.held:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if not child:
        os._exit(0 if lock.held.acquire(timeout=5) else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done.set()
    thread.join()
    assert status == 0
