"""SmartEmbeddings: choosing items, joining, NumPy in and out; round trips and streams to disk, and damaged files."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from fixtures.ragged import batches, item_lists, ragged, same
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import SmartEmbeddings, SmartError
from smart_retrieval.embeddings import EmbeddingsWriter, Grid
from smart_retrieval.errors import EmbeddingsError
from smart_retrieval.types import EncodingReport

LENGTHS = [2, 0, 3, 1, 0, 4]


@pytest.fixture
def six():
    return ragged(LENGTHS, seed=3)


class Vocabulary:
    """Spells an id as its number, and remembers that it was never asked for an id that is none."""

    def convert_ids_to_tokens(self, ids):
        assert all(i >= 0 for i in ids)
        return [f"t{i}" for i in ids]


# -- shape ---------------------------------------------------------------------------------------------------------


def test_batches_in_order_are_their_items_one_by_one():
    rng = np.random.default_rng(0)

    def batch(*lengths):
        total = sum(lengths)
        grids = [(Grid(("image", "audio")[n % 2], 1, 1, n),) * (n % 3) for n in lengths]
        return SmartEmbeddings(
            rng.random((len(lengths), 3), np.float32), rng.random((total, 4), np.float32),
            np.cumsum([0, *lengths]), rng.integers(0, 9, total), rng.integers(0, 5, total), grids=grids,
        )  # fmt: skip

    groups = [[batch(3, 1, 2), batch(0, 4)], [batch(2)], [batch()], [batch(1, 5), batch(2, 2)]]
    orders = [np.array([4, 0, 3, 1, 2]), None, np.arange(0), np.array([3, 2, 1, 0])]
    one_by_one = []
    for group, order in zip(groups, orders, strict=True):
        items = [item for one in group for item in one]
        one_by_one += items if order is None else [items[place] for place in order]
    wanted = SmartEmbeddings.concatenate(one_by_one)
    pairs = list(zip(groups, orders, strict=True))
    found = SmartEmbeddings.in_order(pairs)
    assert not pairs
    for name, array in wanted.to_numpy().items():
        assert np.array_equal(found.to_numpy()[name], array), name
        assert found.to_numpy()[name].dtype == array.dtype
    assert found.grids == wanted.grids
    assert found.report == wanted.report


def test_sizes(six):
    assert len(six) == 6
    assert (six.anchor_dim, six.token_dim) == (6, 5)
    assert six.lengths.tolist() == LENGTHS
    # Anchors, token vectors, offsets, ids, roles, and the offsets of grids, of which there are none.
    assert six.nbytes == 6 * 6 * 4 + 10 * 5 * 4 + 7 * 8 + 10 * 4 + 10 * 1 + 7 * 8
    assert six.report == EncodingReport(items=6)
    assert "6 items" in repr(six)
    assert "5d float32" in repr(six)


def test_ids_and_roles_have_defaults():
    one = SmartEmbeddings([[1.0]], [[1.0], [2.0]], [0, 2])
    assert one.token_ids.tolist() == [-1, -1]
    assert one.roles.tolist() == [3, 3]
    assert (one.token_ids.dtype, one.roles.dtype, one.offsets.dtype) == (np.int32, np.uint8, np.int64)


@pytest.mark.parametrize(
    "change",
    [
        {"anchors": np.zeros(3)},
        {"anchors": np.zeros((3, 2))},
        {"token_vectors": np.zeros(4)},
        {"token_vectors": np.zeros((5, 3))},
        {"offsets": [0, 4]},
        {"offsets": [0, 2, 3]},
        {"offsets": [1, 2, 4]},
        {"offsets": [0, 5, 4]},
        {"offsets": [[0, 2, 4]]},
        {"offsets": 4},
        {"token_ids": [1, 2, 3]},
        {"roles": np.zeros((4, 1))},
    ],
    ids=lambda change: f"{next(iter(change))}-{np.shape(next(iter(change.values())))}",
)
def test_shapes_that_do_not_fit_are_refused(change):
    good = {"anchors": np.zeros((2, 2)), "token_vectors": np.zeros((4, 3)), "offsets": [0, 2, 4]}
    SmartEmbeddings(**good)
    with pytest.raises(EmbeddingsError):
        SmartEmbeddings(**(good | change))


def test_a_single_number_for_anchors_is_refused():
    with pytest.raises(EmbeddingsError):
        SmartEmbeddings(np.float32(1), np.zeros((4, 3)), [0, 4])


# -- choosing items ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 5, -1, -6, np.int64(2), np.int32(-2)])
def test_one_item(six, index):
    assert item_lists(six[index]) == [item_lists(six)[index]]


@pytest.mark.parametrize("index", [6, -7, np.int64(6)])
def test_an_index_out_of_range(six, index):
    with pytest.raises(IndexError, match=str(index)):
        six[index]


@pytest.mark.parametrize("wrong", [[0, 6], [-7], np.array([99])])
def test_a_list_with_an_index_out_of_range(six, wrong):
    with pytest.raises(IndexError):
        six[wrong]


@given(batches(), st.slices(8))
def test_slices_choose_what_a_list_would(batch, chosen):
    assert item_lists(batch[chosen]) == item_lists(batch)[chosen]


@given(batches(min_items=1), st.data())
def test_lists_choose_in_their_order_with_repeats(batch, data):
    chosen = data.draw(st.lists(st.integers(-len(batch), len(batch) - 1), max_size=8))
    expected = [item_lists(batch)[i] for i in chosen]
    assert item_lists(batch[chosen]) == expected
    assert item_lists(batch[np.array(chosen, np.int32)]) == expected


@given(batches(), st.data())
def test_masks_choose_where_true(batch, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch)))
    expected = [item for item, wanted in zip(item_lists(batch), mask, strict=True) if wanted]
    assert item_lists(batch[np.array(mask, bool)]) == expected


@pytest.mark.parametrize("length", [5, 7])
def test_a_mask_of_another_length_is_refused(six, length):
    with pytest.raises(IndexError, match="mask"):
        six[np.ones(length, bool)]


def test_indices_that_are_no_whole_numbers_are_refused(six):
    with pytest.raises((IndexError, TypeError, SmartError)):
        six[[1.9]]


def test_iterating_gives_every_item(six):
    assert [item_lists(item)[0] for item in six] == item_lists(six)


def test_a_slice_of_step_one_copies_nothing(six):
    part = six[2:5]
    assert np.shares_memory(part.token_vectors, six.token_vectors)
    assert np.shares_memory(part.anchors, six.anchors)
    assert not np.shares_memory(six[[2, 3]].token_vectors, six.token_vectors)


def test_choosing_keeps_dtype_and_tokenizer(six):
    half = six.astype("float16")
    half.tokenizer = Vocabulary()
    for key in (1, slice(0, 3), slice(None, None, 2), [3, 0]):
        assert half[key].token_vectors.dtype == np.float16
        assert half[key].tokenizer is half.tokenizer


def test_empty_batches_work(six):
    none = six[0:0]
    assert len(none) == 0
    assert (none.anchor_dim, none.token_dim) == (6, 5)
    assert none.offsets.tolist() == [0]
    assert len(none[:]) == len(none[[]]) == len(none[::-1]) == len(list(none)) == 0
    with pytest.raises(IndexError):
        none[0]


# -- joining -------------------------------------------------------------------------------------------------------


@given(st.lists(batches(), min_size=1, max_size=4))
def test_concatenating_joins_the_items(parts):
    before = [item_lists(part) for part in parts]
    joined = SmartEmbeddings.concatenate(parts)
    assert item_lists(joined) == [item for items in before for item in items]
    assert joined.report.items == len(joined)
    assert [item_lists(part) for part in parts] == before  # the parts stay as they were, and stay in the list


@given(batches(min_items=1))
def test_cutting_into_items_and_joining_gives_the_batch_back(batch):
    assert same(SmartEmbeddings.concatenate(list(batch)), batch)


@given(batches(), st.data())
def test_cutting_anywhere_and_joining_gives_the_batch_back(batch, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=3)))
    bounds = [0, *cuts, len(batch)]
    parts = [batch[start:stop] for start, stop in pairwise(bounds)]
    assert same(SmartEmbeddings.concatenate(parts), batch)


def test_concatenating_adds_the_reports_up():
    left = ragged([1])
    right = ragged([2, 1])
    left.report = EncodingReport(items=1, truncated=1, truncated_tokens=7, empty=0)
    right.report = EncodingReport(items=2, truncated=1, truncated_tokens=2, empty=1)
    assert SmartEmbeddings.concatenate([left, right]).report == EncodingReport(3, 2, 9, 1)
    assert left.report.to_dict() == {"items": 1, "truncated": 1, "truncated_tokens": 7, "empty": 0}


def test_concatenating_float16_and_float32_loses_nothing():
    wide, narrow = ragged([2]), ragged([3]).astype("float16")
    joined = SmartEmbeddings.concatenate([narrow, wide])
    assert joined.token_vectors.dtype == np.float32
    assert np.array_equal(joined.token_vectors[3:], wide.token_vectors)


@pytest.mark.parametrize(
    "parts", [[], [ragged([1]), ragged([1], token_dim=4)], [ragged([1]), ragged([1], anchor_dim=4)]]
)
def test_batches_that_do_not_fit_together_are_refused(parts):
    with pytest.raises(EmbeddingsError):
        SmartEmbeddings.concatenate(parts)


# -- NumPy, dtypes, strings ----------------------------------------------------------------------------------------


@given(batches())
def test_numpy_round_trip(batch):
    assert same(SmartEmbeddings.from_numpy(batch.to_numpy()), batch)


def test_from_numpy_needs_the_three_arrays_and_no_others(six):
    arrays = six.to_numpy()
    bare = SmartEmbeddings.from_numpy({name: arrays[name] for name in ("anchors", "token_vectors", "offsets")})
    assert np.array_equal(bare.token_vectors, six.token_vectors)
    assert set(bare.token_ids.tolist()) == {-1}
    with pytest.raises(EmbeddingsError, match=r"missing.*offsets"):
        SmartEmbeddings.from_numpy({name: arrays[name] for name in ("anchors", "token_vectors")})
    with pytest.raises(EmbeddingsError, match=r"unknown.*grids"):
        SmartEmbeddings.from_numpy({**arrays, "grids": np.zeros(3)})


def test_astype_changes_the_token_vectors_only(six):
    half = six.astype("float16")
    assert half.token_vectors.dtype == np.float16
    assert np.array_equal(half.anchors, six.anchors)
    assert half.anchors.dtype == np.float32
    assert np.array_equal(half.token_vectors, six.token_vectors.astype(np.float16))
    assert np.array_equal(half.offsets, six.offsets)
    assert half.report == six.report


def test_token_strings_leave_positions_without_an_id_empty():
    batch = SmartEmbeddings(np.eye(3), np.eye(4), [0, 3, 3, 4], token_ids=[5, -1, 7, -1], tokenizer=Vocabulary())
    assert batch.token_strings(0) == ["t5", "", "t7"]
    assert batch.token_strings(1) == []
    assert batch.token_strings(-1) == [""]


def test_token_strings_need_a_tokenizer(six):
    with pytest.raises(EmbeddingsError, match="tokenizer"):
        six.token_strings(0)
    assert len(six[2:].token_strings(0, tokenizer=Vocabulary())) == 3


# -- files -----------------------------------------------------------------------------------------------------------

KINDS = ["emb", "emb.safetensors"]


@pytest.fixture
def reported():
    batch = ragged([2, 0, 3, 1, 0, 4], seed=3)
    batch.report = EncodingReport(items=6, truncated=2, truncated_tokens=11, empty=2)
    return batch


@pytest.fixture(params=KINDS)
def saved(request, reported, tmp_path):
    return reported.save(tmp_path / request.param)


@pytest.mark.parametrize("name", KINDS)
@given(batch=batches(), half=st.booleans())
def test_round_trip(name, batch, half, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip" / name
    batch = batch.astype("float16") if half else batch
    assert batch.save(path) == path
    assert same(SmartEmbeddings.load(path), batch)
    assert SmartEmbeddings.load(path).report == batch.report


def test_the_report_comes_back(saved, reported):
    assert SmartEmbeddings.load(saved).report == reported.report


def test_a_string_as_path(reported, tmp_path):
    assert same(SmartEmbeddings.load(str(reported.save(str(tmp_path / "emb")))), reported)


def test_saving_leaves_nothing_else_behind(saved):
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_saving_replaces_an_earlier_one(saved):
    other = ragged([1, 1], seed=9)
    other.save(saved)
    assert same(SmartEmbeddings.load(saved), other)


def test_missing_parent_folders_are_made(reported, tmp_path):
    for name in KINDS:
        assert same(SmartEmbeddings.load(reported.save(tmp_path / "a" / name / name)), reported)


def test_a_folder_can_be_mapped_and_read_in_part(reported, tmp_path):
    mapped = SmartEmbeddings.load(reported.save(tmp_path / "emb"), mmap=True)
    assert isinstance(mapped.token_vectors, np.memmap)
    assert isinstance(mapped.anchors, np.memmap)
    assert isinstance(mapped[2:4].token_vectors, np.memmap)
    assert not mapped.token_vectors.flags.writeable
    assert same(mapped, reported)
    assert same(mapped[2:4], reported[2:4])


@pytest.mark.parametrize("mmap", [False, True])
def test_items_without_any_token_at_all(mmap, tmp_path):
    bare = ragged([0, 0])
    assert same(SmartEmbeddings.load(bare.save(tmp_path / "emb"), mmap=mmap), bare)


def test_a_mapped_folder_can_be_saved_over_itself(reported, tmp_path):
    path = reported.save(tmp_path / "emb")
    SmartEmbeddings.load(path, mmap=True)[:4].save(path)
    assert same(SmartEmbeddings.load(path), reported[:4])


# -- the writer ----------------------------------------------------------------------------------------------------


@given(st.lists(batches(), min_size=1, max_size=5))
def test_appending_equals_concatenating(tmp_path_factory, parts):
    path = tmp_path_factory.getbasetemp() / "appended"
    write(path, *parts)
    loaded = SmartEmbeddings.load(path, mmap=True)
    joined = SmartEmbeddings.concatenate(parts)
    assert same(loaded, joined)
    assert loaded.report == joined.report


def test_nothing_is_visible_before_the_writer_closes(reported, tmp_path):
    with EmbeddingsWriter(tmp_path / "emb") as writer:
        writer.append(reported)
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


def test_a_failure_leaves_nothing_behind_and_the_earlier_one_whole(reported, tmp_path):
    reported.save(tmp_path / "old")
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="power"):
            write_and_fail(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert same(SmartEmbeddings.load(tmp_path / "old"), reported)


def test_a_folder_of_a_like_name_is_left_alone(reported, tmp_path):
    (tmp_path / "emb.part").mkdir()
    (tmp_path / "emb.part" / "anchors.npy").write_bytes(b"half")
    with pytest.raises(EmbeddingsError, match="no such file"):
        SmartEmbeddings.load(tmp_path / "emb")
    reported.save(tmp_path / "emb")
    assert same(SmartEmbeddings.load(tmp_path / "emb"), reported)
    assert (tmp_path / "emb.part" / "anchors.npy").read_bytes() == b"half"
    assert {entry.name for entry in tmp_path.iterdir()} == {"emb", "emb.part"}


def test_batches_that_do_not_fit_are_refused(reported, tmp_path):
    for other in (ragged([1], token_dim=4), ragged([1], anchor_dim=4), ragged([1]).astype("float16")):
        with pytest.raises(EmbeddingsError, match="as before"):
            write(tmp_path / "emb", reported, other)
    assert list(tmp_path.iterdir()) == []


def test_writing_nothing_is_refused(tmp_path):
    with pytest.raises(EmbeddingsError, match="nothing"), EmbeddingsWriter(tmp_path / "emb"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_and_folders_are_never_overwritten(reported, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine too")
    for path in (file, folder):
        with pytest.raises(EmbeddingsError, match="something else"):
            reported.save(path)
    assert file.read_text() == "mine"
    assert (folder / "thesis.txt").read_text() == "mine too"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.txt"]


def test_an_empty_folder_as_target(reported, tmp_path):
    (tmp_path / "emb").mkdir()
    reported.save(tmp_path / "emb")
    assert same(SmartEmbeddings.load(tmp_path / "emb"), reported)


# -- damage --------------------------------------------------------------------------------------------------------


def refused(path, match=None):
    for mmap in (False, True):
        with pytest.raises(EmbeddingsError, match=match) as caught:
            SmartEmbeddings.load(path, mmap=mmap)
        assert type(caught.value) is EmbeddingsError
    return str(caught.value)


def test_a_missing_path(tmp_path):
    for name in ("gone", "gone.safetensors"):
        assert name in refused(tmp_path / name, "no such file")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 40, 0.5, -1])
def test_a_truncated_safetensors_file(reported, tmp_path, keep):
    path = reported.save(tmp_path / "emb.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    assert "emb.safetensors" in refused(path, "cannot be read")


@pytest.mark.parametrize("name", ["anchors", "token_vectors", "offsets", "token_ids", "roles"])
@pytest.mark.parametrize("damage", ["gone", "empty", "header", "short", "text", "pickle"])
def test_a_damaged_folder(reported, tmp_path, name, damage):
    path = reported.save(tmp_path / "emb")
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
def test_arrays_of_two_encodings_mixed_up(reported, tmp_path, name):
    path, other = reported.save(tmp_path / "emb"), ragged([1, 2], seed=5).save(tmp_path / "other")
    shutil.copy(other / f"{name}.npy", path / f"{name}.npy")
    refused(path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", "{}", '{"format": "smart-embeddings/1"}', '{"report": {}}', "\udcff"],
)
def test_a_damaged_manifest(reported, tmp_path, text):
    path = reported.save(tmp_path / "emb")
    (path / "embeddings.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(path)


def test_a_manifest_of_another_format_or_with_unknown_counts(reported, tmp_path):
    path = reported.save(tmp_path / "emb")
    file = path / "embeddings.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "format": "smart-embeddings/9"}))
    refused(path, "smart-embeddings/9.*expected 'smart-embeddings/1'")
    del manifest["checksum"]
    file.write_text(json.dumps({**manifest, "report": {"itmes": 3}}))
    refused(path, "cannot be read")


def test_a_folder_without_a_manifest_was_cut_off(reported, tmp_path):
    path = reported.save(tmp_path / "emb")
    (path / "embeddings.json").unlink()
    refused(path, "cut off")


def test_foreign_safetensors(reported, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    refused(path, "format None")
    arrays = {name: np.ascontiguousarray(array) for name, array in reported.to_numpy().items()}
    save_file(arrays, path, metadata={"format": "other/1", "report": "{}"})
    refused(path, "other/1")
    for change in ({"more": np.zeros(2)}, {"offsets": arrays["offsets"][:-1]}):
        save_file(arrays | change, path, metadata={"format": "smart-embeddings/1", "report": "{}"})
        refused(path)


def test_a_foreign_folder(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("print()")
    refused(tmp_path / "src", "not a folder of embeddings")


def flips(path, count, seed=0):
    """Flip random bits of a file, one at a time."""
    whole = path.read_bytes()
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(whole), count).tolist():
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield at
    path.write_bytes(whole)


def loads_as(path, expected, mmap=False):
    """Whether it loads, and then as what it was."""
    try:
        found = SmartEmbeddings.load(path, mmap=mmap)
    except EmbeddingsError:
        return False
    assert same(found, expected)
    assert found.report == expected.report
    return True


@pytest.mark.parametrize("mmap", [False, True])
def test_no_flipped_bit_of_a_folder_is_taken(reported, tmp_path, mmap):
    path = reported.save(tmp_path / "emb")
    for file in sorted(path.iterdir()):
        taken = sum(loads_as(path, reported, mmap) for _ in flips(file, 60))
        assert taken <= 5 * (file.suffix == ".json"), file  # the spaces between the JSON's values
    assert loads_as(path, reported, mmap)


def test_no_flipped_bit_of_a_file_is_taken(reported, tmp_path):
    path = reported.save(tmp_path / "emb.safetensors")
    for at in flips(path, 400):
        assert not loads_as(path, reported), at
    assert loads_as(path, reported)


def test_a_folder_that_cannot_be_written_is_named_and_leaves_nothing(reported, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (100, 4096):  # too small for what is written at once, and for what is written on closing
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(OSError, match="emb"):
                write_often(reported, tmp_path / "emb")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []


def write_often(embeddings, path):
    with EmbeddingsWriter(path) as writer:
        for _ in range(40):
            writer.append(embeddings)


def test_files_without_checksums_still_load(reported, tmp_path):
    """As version 0.1.0 wrote them."""
    from safetensors.numpy import load_file, save_file

    folder, file = reported.save(tmp_path / "emb"), reported.save(tmp_path / "emb.safetensors")
    about = json.loads((folder / "embeddings.json").read_text())
    (folder / "embeddings.json").write_text(json.dumps({key: about[key] for key in ("format", "report")}))
    save_file(load_file(file), file, {"format": about["format"], "report": json.dumps(about["report"])})
    assert loads_as(folder, reported)
    assert loads_as(file, reported)
