"""SmartEmbeddings on disk: round trips, streams, and every way a file can be wrong."""

import json
import shutil

import numpy as np
import pytest
from fixtures.ragged import batches, ragged, same
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings
from smart_retrieval.embeddings import EmbeddingsWriter
from smart_retrieval.errors import EmbeddingsError
from smart_retrieval.types import EncodingReport

KINDS = ["emb", "emb.safetensors"]


@pytest.fixture
def six():
    batch = ragged([2, 0, 3, 1, 0, 4], seed=3)
    batch.report = EncodingReport(items=6, truncated=2, truncated_tokens=11, empty=2)
    return batch


@pytest.fixture(params=KINDS)
def saved(request, six, tmp_path):
    return six.save(tmp_path / request.param)


@pytest.mark.parametrize("name", KINDS)
@given(batch=batches(), half=st.booleans())
def test_round_trip(name, batch, half, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip" / name
    batch = batch.astype("float16") if half else batch
    assert batch.save(path) == path
    assert same(SmartEmbeddings.load(path), batch)
    assert SmartEmbeddings.load(path).report == batch.report


def test_the_report_comes_back(saved, six):
    assert SmartEmbeddings.load(saved).report == six.report


def test_a_string_path_will_do(six, tmp_path):
    assert same(SmartEmbeddings.load(str(six.save(str(tmp_path / "emb")))), six)


def test_saving_leaves_nothing_else_behind(saved):
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_saving_replaces_an_earlier_one(saved):
    other = ragged([1, 1], seed=9)
    other.save(saved)
    assert same(SmartEmbeddings.load(saved), other)


def test_missing_parent_folders_are_made(six, tmp_path):
    for name in KINDS:
        assert same(SmartEmbeddings.load(six.save(tmp_path / "a" / name / name)), six)


def test_a_folder_can_be_mapped_and_read_in_part(six, tmp_path):
    mapped = SmartEmbeddings.load(six.save(tmp_path / "emb"), mmap=True)
    assert isinstance(mapped.token_vectors, np.memmap)
    assert isinstance(mapped.anchors, np.memmap)
    assert isinstance(mapped[2:4].token_vectors, np.memmap)
    assert not mapped.token_vectors.flags.writeable
    assert same(mapped, six)
    assert same(mapped[2:4], six[2:4])


@pytest.mark.parametrize("mmap", [False, True])
def test_items_without_any_token_at_all(mmap, tmp_path):
    bare = ragged([0, 0])
    assert same(SmartEmbeddings.load(bare.save(tmp_path / "emb"), mmap=mmap), bare)


def test_a_mapped_folder_can_be_saved_over_itself(six, tmp_path):
    path = six.save(tmp_path / "emb")
    SmartEmbeddings.load(path, mmap=True)[:4].save(path)
    assert same(SmartEmbeddings.load(path), six[:4])


# -- the writer ----------------------------------------------------------------------------------------------------


@given(st.lists(batches(), min_size=1, max_size=5))
def test_appending_equals_concatenating(tmp_path_factory, parts):
    path = tmp_path_factory.getbasetemp() / "appended"
    write(path, *parts)
    loaded = SmartEmbeddings.load(path, mmap=True)
    joined = SmartEmbeddings.concatenate(parts)
    assert same(loaded, joined)
    assert loaded.report == joined.report


def test_nothing_is_visible_before_the_writer_closes(six, tmp_path):
    with EmbeddingsWriter(tmp_path / "emb") as writer:
        writer.append(six)
        assert not (tmp_path / "emb").exists()
    assert (tmp_path / "emb").is_dir()


def write_and_fail(path):
    with EmbeddingsWriter(path) as writer:
        writer.append(ragged([3]))
        raise RuntimeError("power")


def write(path, *parts):
    with EmbeddingsWriter(path) as writer:
        for part in parts:
            writer.append(part)


def test_a_failure_leaves_nothing_behind_and_the_earlier_one_whole(six, tmp_path):
    six.save(tmp_path / "old")
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="power"):
            write_and_fail(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert same(SmartEmbeddings.load(tmp_path / "old"), six)


def test_a_folder_of_a_like_name_is_left_alone(six, tmp_path):
    (tmp_path / "emb.part").mkdir()
    (tmp_path / "emb.part" / "anchors.npy").write_bytes(b"half")
    with pytest.raises(EmbeddingsError, match="no such file"):
        SmartEmbeddings.load(tmp_path / "emb")
    six.save(tmp_path / "emb")
    assert same(SmartEmbeddings.load(tmp_path / "emb"), six)
    assert (tmp_path / "emb.part" / "anchors.npy").read_bytes() == b"half"
    assert {entry.name for entry in tmp_path.iterdir()} == {"emb", "emb.part"}


def test_batches_that_do_not_fit_are_refused(six, tmp_path):
    for other in (ragged([1], token_dim=4), ragged([1], anchor_dim=4), ragged([1]).astype("float16")):
        with pytest.raises(EmbeddingsError, match="as before"):
            write(tmp_path / "emb", six, other)
    assert list(tmp_path.iterdir()) == []


def test_writing_nothing_is_refused(tmp_path):
    with pytest.raises(EmbeddingsError, match="nothing"), EmbeddingsWriter(tmp_path / "emb"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_and_folders_are_never_overwritten(six, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine too")
    for path in (file, folder):
        with pytest.raises(EmbeddingsError, match="something else"):
            six.save(path)
    assert file.read_text() == "mine"
    assert (folder / "thesis.txt").read_text() == "mine too"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.txt"]


def test_an_empty_folder_may_be_filled(six, tmp_path):
    (tmp_path / "emb").mkdir()
    six.save(tmp_path / "emb")
    assert same(SmartEmbeddings.load(tmp_path / "emb"), six)


# -- damage --------------------------------------------------------------------------------------------------------


def refused(path, match=None):
    for mmap in (False, True):
        with pytest.raises(EmbeddingsError, match=match) as caught:
            SmartEmbeddings.load(path, mmap=mmap)
        assert type(caught.value) is EmbeddingsError
    return str(caught.value)


def test_a_path_that_leads_nowhere(tmp_path):
    for name in ("gone", "gone.safetensors"):
        assert name in refused(tmp_path / name, "no such file")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 40, 0.5, -1])
def test_a_truncated_safetensors_file(six, tmp_path, keep):
    path = six.save(tmp_path / "emb.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    assert "emb.safetensors" in refused(path, "cannot be read")


@pytest.mark.parametrize("name", ["anchors", "token_vectors", "offsets", "token_ids", "roles"])
@pytest.mark.parametrize("damage", ["gone", "empty", "header", "short", "text", "pickle"])
def test_a_damaged_folder(six, tmp_path, name, damage):
    path = six.save(tmp_path / "emb")
    file = path / f"{name}.npy"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "pickle":
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        file.write_bytes({"empty": b"", "header": whole[:20], "short": whole[:-1], "text": b"hello"}[damage])
    assert "emb" in refused(path)


@pytest.mark.parametrize("name", ["anchors", "token_vectors", "offsets", "token_ids", "roles"])
def test_arrays_of_two_encodings_mixed_up(six, tmp_path, name):
    path, other = six.save(tmp_path / "emb"), ragged([1, 2], seed=5).save(tmp_path / "other")
    shutil.copy(other / f"{name}.npy", path / f"{name}.npy")
    refused(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", "{}", '{"format": "smart-embeddings/1"}', '{"report": {}}', "\udcff"],
)
def test_a_damaged_manifest(six, tmp_path, text):
    path = six.save(tmp_path / "emb")
    (path / "embeddings.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(path)


def test_a_manifest_of_another_format_or_with_unknown_counts(six, tmp_path):
    path = six.save(tmp_path / "emb")
    file = path / "embeddings.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "format": "smart-embeddings/9"}))
    refused(path, "smart-embeddings/9.*expected 'smart-embeddings/1'")
    file.write_text(json.dumps({**manifest, "report": {"itmes": 3}}))
    refused(path, "cannot be read")


def test_a_folder_without_a_manifest_was_cut_off(six, tmp_path):
    path = six.save(tmp_path / "emb")
    (path / "embeddings.json").unlink()
    refused(path, "cut off")


def test_foreign_safetensors(six, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    refused(path, "format None")
    arrays = {name: np.ascontiguousarray(array) for name, array in six.to_numpy().items()}
    save_file(arrays, path, metadata={"format": "other/1", "report": "{}"})
    refused(path, "other/1")
    for change in ({"more": np.zeros(2)}, {"offsets": arrays["offsets"][:-1]}):
        save_file(arrays | change, path, metadata={"format": "smart-embeddings/1", "report": "{}"})
        refused(path)


def test_a_foreign_folder(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("print()")
    refused(tmp_path / "src", "not a folder of embeddings")
