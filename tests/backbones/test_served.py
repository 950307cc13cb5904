"""Token states from a server: the same as a local run's, over each protocol, or a named error."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from fixtures.model_server import served
from fixtures.tiny_models import HIDDEN, TEXTS
from fixtures.tiny_text_families import save_family
from typer.testing import CliRunner

from smart_retrieval import Readout, SmartIndex, SmartModel
from smart_retrieval.backbones.checkpoints import split_server
from smart_retrieval.backbones.server_client import ServerClient
from smart_retrieval.errors import (
    IndexMismatchError,
    ModelNotFoundError,
    ModelServerError,
    NonFiniteError,
    SmartWarning,
    UnsupportedModelError,
)
from smart_retrieval.index.store.manifest import Manifest
from smart_retrieval.index.store.store import Store

PROTOCOLS = ("vllm", "llama.cpp")
STATES = {"vllm": "/pooling", "llama.cpp": "/embeddings"}

pytestmark = pytest.mark.filterwarnings("ignore::smart_retrieval.errors.SmartWarning")


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tiny):
    """``folder(name)``: a family's checkpoint, or one of the tiny models."""

    @cache
    def of(name):
        if name in tiny.builders:
            return tiny(name)
        return save_family(tmp_path_factory.mktemp(name), name)

    return of


@pytest.fixture
def server(folder):
    """``server(name, protocol)``: a running server of a checkpoint."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda name="prompts", protocol="vllm": stack.enter_context(served(folder(name), protocol))


def at(server, folder, name="prompts"):
    return f"{folder(name)}@{server.url}"


# -- the same as here ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["qwen3-embedding", "e5-mistral", "kalm", "bge-m3", "nomic-bert", "prompts", "cls"])
def test_states_from_a_server_are_those_of_a_local_run(name, protocol, folder, server):
    remote = SmartModel(at(server(name, protocol), folder, name))
    local = SmartModel(folder(name), device="cpu")
    assert (remote.max_length, remote.backbone.pooling) == (local.max_length, local.backbone.pooling)
    assert (remote.prompts, remote.token_dim) == (local.prompts, local.token_dim)
    texts = [*TEXTS, "", "the sea " * 300, *TEXTS]  # more than one request holds
    for task in ("query", "document"):
        ours, theirs = (getattr(model, f"encode_{task}")(texts) for model in (remote, local))
        assert np.abs(ours.anchors - theirs.anchors).max() <= 1e-5
        assert np.abs(ours.token_vectors - theirs.token_vectors).max() <= 1e-5
        assert ours.token_ids.tolist() == theirs.token_ids.tolist()
        assert ours.roles.tolist() == theirs.roles.tolist()
        assert ours.report.truncated == theirs.report.truncated


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_calibrated_default_holds(protocol, folder, server):
    remote = SmartModel(at(server(protocol=protocol), folder))
    local = SmartModel(folder("prompts"), device="cpu")
    for model in (remote, local):
        model.scores = model.similarity(model.encode_query(TEXTS[:4]), model.encode_document(TEXTS))
    assert np.abs(remote.scores - local.scores).max() <= 1e-5
    # The paper's preset reads the last layer, too.
    paper = SmartModel(at(server(protocol=protocol), folder), preset="paper")
    assert paper.encode_document(TEXTS).token_dim == HIDDEN


def test_a_server_that_takes_less_than_the_model_cuts_texts_off_and_says_so(folder, server):
    running = server("qwen3-embedding")
    running.spoil = lambda path, answer: (
        {"data": [{**answer["data"][0], "max_model_len": 12}]} if path == "/v1/models" else answer
    )
    model = SmartModel(at(running, folder, "qwen3-embedding"))
    assert model.max_length == 12
    with pytest.warns(SmartWarning, match="longer than the model's 12 tokens"):
        model.encode_document("the otter swims " * 9)


def test_bare_checkpoints_are_pooled_as_their_family_or_as_told(folder, server, tiny):
    running = server("mean")
    plain = tiny("mean").parent / "plain"
    with pytest.raises(UnsupportedModelError, match="choose with pooling="):
        SmartModel(f"{plain}@{running.url}")
    told = SmartModel(f"{plain}@{running.url}", pooling="mean").encode_document(TEXTS)
    assert (
        np.abs(told.anchors - SmartModel(tiny("mean-normalized"), device="cpu").encode_document(TEXTS).anchors).max()
        < 1e-5
    )


# -- names, indexes, commands ----------------------------------------------------------------------------------------


def test_how_a_served_model_is_named():
    assert split_server("a/b@http://h:1") == ("a/b", "http://h:1")
    assert split_server("/x/y@z@https://h/v") == ("/x/y@z", "https://h/v")
    for name in ("a/b", "a@b", "http://h:1", "@http://h:1", ""):
        assert split_server(name) is None


def test_an_index_names_its_server_and_never_asks_it_by_itself(folder, server, tmp_path):
    first, second = server(), server()
    model = SmartModel(at(first, folder))
    with SmartIndex.create(tmp_path / "index", model) as index:
        index.add(TEXTS)
        hits = [(hit.id, hit.score) for hit in index.search("the cold river")]
    before = len(first.asked)
    with SmartIndex.open(tmp_path / "index") as index, pytest.raises(ModelNotFoundError, match="name it yourself"):
        index.search("the cold river")
    assert len(first.asked) == before
    # The same model at another address.
    with SmartIndex.open(tmp_path / "index", model=at(second, folder)) as index:
        assert [hit.id for hit in index.search("the cold river")] == [name for name, _ in hits]
    assert first.url in SmartIndex.open(tmp_path / "index").info()["model"]["name"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_index_refuses_other_weights_under_the_same_name(protocol, folder, server, tmp_path):
    first, second, near = (server(protocol=protocol) for _ in range(3))
    with SmartIndex.create(tmp_path / "index", SmartModel(at(first, folder))) as index:
        index.add(TEXTS, ids=[str(place) for place in range(len(TEXTS))])
    changed(second.model, 1.0)
    changed(near.model, 0.003)  # as a server that rounds
    with pytest.raises(IndexMismatchError, match=r"gives other token states than .* serve the same weights"):
        SmartIndex.open(tmp_path / "index", model=at(second, folder))
    with SmartIndex.open(tmp_path / "index", model=at(near, folder)) as index:
        assert index.search(TEXTS[2], 1)[0].id == "2"


def changed(model, share):
    """Other weights of the same shape."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += share * weight.std(correction=0) * torch.randn_like(weight)


def test_an_index_that_records_no_states_or_odd_ones(folder, server, tmp_path):
    running = server()
    with SmartIndex.create(tmp_path / "index", SmartModel(at(running, folder))) as index:
        manifest = index.store.manifest
    assert len(manifest.limits["states"]) == 64
    older = {name: value for name, value in manifest.limits.items() if name != "states"}
    for limits, sound in ((older, True), ({**older, "states": "x"}, False), ({**older, "states": [1.0]}, False)):
        with Store.open(tmp_path / "index", "w") as store, store.transaction() as handle:
            Manifest.put(handle.connection, "limits", limits)
        if sound:
            SmartIndex.open(tmp_path / "index", model=at(running, folder)).close()
        else:
            with pytest.raises(IndexMismatchError, match="other token states"):
                SmartIndex.open(tmp_path / "index", model=at(running, folder))


def test_the_commands_take_a_served_model(folder, server, tmp_path):
    from smart_retrieval.cli.main import app

    name = at(server(protocol="llama.cpp"), folder)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("the otter swims in the cold river")
    run = CliRunner().invoke
    made = run(app, ["index", str(tmp_path / "docs"), "--index", str(tmp_path / "i"), "--model", name])
    assert made.exit_code == 0, made.output
    found = run(app, ["search", str(tmp_path / "i"), "river", "--model", name])
    assert found.exit_code == 0, found.output
    assert "a.txt" in found.stdout
    about = run(app, ["inspect", name])
    assert about.exit_code == 0, about.output
    assert "served (BertModel" in about.stdout


def test_a_pickled_model_connects_again(folder, server):
    model = SmartModel(at(server(), folder))
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.encode_query("sea").anchors, model.encode_query("sea").anchors)


# -- errors ----------------------------------------------------------------------------------------------------------


def test_no_server(folder):
    with pytest.raises(ModelServerError, match=r"cannot be reached.*vllm serve.*llama-server"):
        ServerClient("http://127.0.0.1:9", "m", retries=0)


@pytest.mark.parametrize("url", ["http://me:secret@h:1", "ftp://h", "http://", "http://h?key=1"])
def test_urls_that_are_refused(url, monkeypatch):
    with pytest.raises(ModelServerError, match="SMART_SERVER_KEY") as caught:
        ServerClient(url, "m")
    assert "secret" not in str(caught.value)


def spoilt(path, change):
    """Change the answers of one path."""
    return lambda asked, answer: change(answer) if asked == path else answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"data": []}, "no list of models"),
        (lambda a: [], "no list of models"),
        (lambda a: {"data": [{"id": "m", "owned_by": "openai"}]}, "owned by 'openai', expected vLLM"),
        (lambda a: {"data": [{**a["data"][0], "id": name} for name in ("x", "y")]}, r"models \['x', 'y'\], expected"),
        (lambda a: "<html>", "something other than JSON"),
        (lambda a: (401, "no"), "answered 401.*SMART_SERVER_KEY"),
        (lambda a: (302, ""), "answered 302"),
    ],
)
def test_servers_of_another_kind(change, message, folder, server):
    running = server()
    running.spoil = spoilt("/v1/models", change)
    with pytest.raises(ModelServerError, match=message):
        SmartModel(at(running, folder))
    assert "/elsewhere" not in [path for path, _ in running.asked]  # redirects are not followed


def rows_of(protocol, change):
    """Change the states of every input: a change takes and gives a matrix."""
    import base64

    def changed(answer):
        if protocol == "llama.cpp":
            return [{**row, "embedding": change(np.array(row["embedding"])).tolist()} for row in answer]
        rows = []
        for row in answer["data"]:
            states = np.frombuffer(base64.b64decode(row["data"]), "<f4").reshape(-1, HIDDEN)
            states = np.ascontiguousarray(change(states), "<f4")
            rows.append({**row, "data": base64.b64encode(states.tobytes()).decode()})
        return {"data": rows}

    return spoilt(STATES[protocol], changed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s[:-1], ModelServerError, r"found \d+ token states, expected \d+.*cut the input off"),
        (
            lambda s: s.mean(0, keepdims=True),
            ModelServerError,
            "found one vector for .* the server pools; start it with",
        ),
        (lambda s: s[:, : HIDDEN - 3], ModelServerError, r"states of \d+ dimensions, expected the 32"),
        (lambda s: s * np.nan, NonFiniteError, "NaN or infinity"),
        (lambda s: s / np.linalg.norm(s, axis=1, keepdims=True), ModelServerError, "states of unit length"),
    ],
)
def test_states_that_cannot_be_right(change, error, message, protocol, folder, server):
    running = server(protocol=protocol)
    running.spoil = rows_of(protocol, change)
    with pytest.raises(error, match=message):
        SmartModel(at(running, folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:0], "found 0 entries, expected token states of 1"),
        (lambda a: {"error": 1}, "found dict, expected token states"),
        (lambda a: [{"index": 0}], "an object with 'embedding'"),
        (lambda a: [{**a[0], "index": 4}], r"found inputs \[4\]"),
        (lambda a: [{"index": 0, "embedding": "!"}], "no numbers"),
        (lambda a: [{"index": 0, "embedding": [["a"]]}], "no numbers"),
        (lambda a: (500, "input is too large to process"), "answered 500 .*input is too large"),
    ],
)
def test_answers_that_cannot_be_read(change, message, folder, server):
    running = server(protocol="llama.cpp")
    running.spoil = spoilt("/embeddings", change)
    with pytest.raises(ModelServerError, match=message):
        SmartModel(at(running, folder))


def test_unit_states_are_right_for_a_single_position(folder, server):
    running = server("qwen3-embedding")
    unit = rows_of("vllm", lambda s: s / np.linalg.norm(s, axis=1, keepdims=True))
    running.spoil = unit
    remote, local = (
        SmartModel(at(running, folder, "qwen3-embedding")),
        SmartModel(folder("qwen3-embedding"), device="cpu"),
    )
    assert np.abs(remote.encode_query(TEXTS).anchors - local.encode_query(TEXTS).anchors).max() <= 1e-6


def test_another_model_behind_the_address(folder, server):
    running = server("bge-m3")
    with pytest.raises(
        ModelServerError, match=r"'bge-m3', which cuts a text into .* name the checkpoint that it serves"
    ):
        SmartModel(f"{folder('prompts')}@{running.url}")


def test_a_busy_server_is_asked_again_and_a_slow_one_is_not_waited_for(folder, server):
    import time

    running = server()
    left = [503, 503]
    running.spoil = lambda path, answer: (left.pop(), "busy") if left and path == "/pooling" else answer
    model = SmartModel(at(running, folder))
    assert not left
    assert len(model.encode_query(TEXTS)) == len(TEXTS)
    running.spoil = lambda path, answer: (503, "busy")
    with pytest.raises(ModelServerError, match="answered 503"):
        ServerClient(running.url, "st", retries=1)
    running.spoil = lambda path, answer: time.sleep(0.4) or answer
    with pytest.raises(ModelServerError, match=r"no answer to /v1/models within 0\.1 seconds"):
        ServerClient(running.url, "st", timeout=(1.0, 0.1), retries=0)


def test_the_key_is_sent_and_nothing_else_of_the_users(folder, server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    running = server()
    ServerClient(running.url, "st")
    assert "Authorization" not in running.headers[-1]
    monkeypatch.setenv("SMART_SERVER_KEY", "abc")
    ServerClient(running.url, "st")
    assert running.headers[-1]["Authorization"] == "Bearer abc"


def test_what_a_server_cannot_give(folder, server, tiny_vlm, tmp_path):
    running = server()
    with pytest.raises(UnsupportedModelError, match="a server gives no others"):
        SmartModel(at(running, folder), readout=Readout(layers=(-2,)))
    with pytest.raises(UnsupportedModelError, match="cannot be saved here"):
        SmartModel(at(running, folder)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="expected a text model"):
        SmartModel(f"{tiny_vlm('qwen3-vl-embedding')}@{running.url}")
    with pytest.raises(UnsupportedModelError, match="dense layers"):
        SmartModel(f"{folder('embeddinggemma')}@{server('embeddinggemma').url}")
    with pytest.raises(ModelNotFoundError):
        SmartModel(f"{tmp_path / 'nothing'}@{running.url}")


def test_an_adapter_over_served_states_does_not_decide_who_is_asked(folder, server, tmp_path):
    from smart_retrieval.core.adapter import Adapter, AdapterConfig

    running = server()
    model = SmartModel(at(running, folder)).with_adapter(Adapter(AdapterConfig(hidden_size=HIDDEN, width=8)))
    model.save_adapter(tmp_path / "adapter")
    before = len(running.asked)
    with pytest.raises(ModelNotFoundError, match="a file does not decide which server is asked"):
        SmartModel(tmp_path / "adapter")
    assert len(running.asked) == before
    again = SmartModel(tmp_path / "adapter", backbone=at(running, folder))
    assert np.array_equal(again.encode_query("sea").token_vectors, model.encode_query("sea").token_vectors)


def test_an_adapter_is_trained_over_served_states_but_not_the_model(folder, server, tmp_path):
    from fixtures.training import training_set

    from smart_retrieval.errors import SmartError
    from smart_retrieval.training import AdapterRecipe, finetune, train_adapter

    model = SmartModel(at(server(), folder))
    recipe = AdapterRecipe(epochs=1, batch_size=4)
    train_adapter(model, training_set(12), tmp_path / "adapter", recipe, validation=0.25, cache=tmp_path / "cache")
    assert SmartModel(tmp_path / "adapter", backbone=at(server(), folder)).adapter is not None
    with pytest.raises(SmartError, match="weights are on a server"):
        finetune(model, training_set(12), tmp_path / "tuned")
