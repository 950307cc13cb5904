"""Blobs: what is packed comes back, and what is damaged, hostile or foreign is refused by name."""

import struct
import zlib

import numpy as np
import pytest
from fixtures.indexes import DIM, documents
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval import Codec, SmartEmbeddings
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.codec.payload import HEADER_BYTES, pack_blob, unpack_blobs

HASH = "00112233445566778899aabbccddeeff"


@pytest.fixture(scope="module")
def sample():
    return documents(300, 3)


@pytest.fixture(scope="module", params=["float16", "int8", "bits4", "codebook", "anchored+3vq+norm"])
def codec(request, sample):
    return fit_codec(request.param, sample)


@given(st.data())
def test_what_is_packed_comes_back(data):
    width = data.draw(st.integers(1, 9))
    tokens = data.draw(st.lists(st.integers(0, 20), max_size=6))
    blobs, codes, ids = [], [], []
    for count in tokens:
        one = np.frombuffer(data.draw(st.binary(min_size=count * width, max_size=count * width)), np.uint8)
        codes.append(one.reshape(count, width))
        ids.append(np.array(data.draw(st.lists(st.integers(-1, 1 << 26), max_size=30)), np.int64))
        blobs.append(pack_blob(HASH, codes[-1], ids[-1]))
    found = unpack_blobs(blobs, HASH, width)
    assert np.array_equal(found.codes, np.concatenate([np.zeros((0, width), np.uint8), *codes]))
    assert found.offsets.tolist() == np.cumsum([0, *tokens]).tolist()
    assert found.token_ids.tolist() == [id for one in ids for id in one.tolist()]
    assert found.id_offsets.tolist() == np.cumsum([0, *map(len, ids)]).tolist()


def test_documents_come_back_as_they_were_coded(codec, sample):
    blobs = codec.encode_blobs(sample)
    found = codec.read_blobs(blobs)
    assert np.array_equal(found.codes, codec.encode_documents(sample))
    assert np.array_equal(found.token_ids, sample.token_ids)
    assert np.array_equal(found.offsets, sample.offsets)
    # Each stands alone: alone, in another order, and with others left out.
    chosen = [7, 3, 7]
    again = codec.read_blobs([blobs[place] for place in chosen])
    for number, place in enumerate(chosen):
        own = slice(*sample.offsets[place : place + 2])
        assert np.array_equal(again.codes[again.offsets[number] : again.offsets[number + 1]], found.codes[own])


def test_without_token_ids_a_blob_is_smaller(codec, sample):
    plain = codec.encode_blobs(sample, token_ids=False)
    found = codec.read_blobs(plain)
    assert not len(found.token_ids)
    assert not found.id_offsets.any()
    assert [len(blob) for blob in plain] == [HEADER_BYTES + codec.bytes_per_token * t for t in sample.lengths.tolist()]


def test_about_a_kilobyte_a_document():
    passages = documents([120] * 20, 5)
    codec = fit_codec("anchored+3vq+norm", passages)
    assert all(800 <= len(blob) <= 1000 for blob in codec.encode_blobs(passages))


def test_nothing_gives_nothing(codec):
    found = codec.read_blobs([])
    assert found.codes.shape == (0, codec.bytes_per_token)
    assert found.offsets.tolist() == [0]
    assert codec.encode_blobs(SmartEmbeddings.concatenate([documents(1, 0)])[0:0]) == []


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_changed_byte_is_noticed(at, flip):
    blob = bytearray(pack_blob(HASH, np.arange(24, dtype=np.uint8).reshape(4, 6), np.arange(4)))
    blob[at % len(blob)] ^= flip
    with pytest.raises(CodecError, match="blob 1: "):
        unpack_blobs([pack_blob(HASH, np.zeros((1, 6), np.uint8)), bytes(blob)], HASH, 6)


@given(cut=st.integers(0, 200), more=st.binary(max_size=20))
def test_cut_off_or_longer_is_refused(cut, more):
    blob = pack_blob(HASH, np.arange(24, dtype=np.uint8).reshape(4, 6), np.arange(4))
    changed = blob[: cut % len(blob)] + more
    if changed != blob:
        with pytest.raises(CodecError, match="blob 0: "):
            unpack_blobs([changed], HASH, 6)


@given(st.one_of(st.binary(max_size=300), st.none(), st.text(), st.integers()))
def test_bytes_that_are_no_blob(value):
    with pytest.raises(CodecError, match="blob 0: "):
        unpack_blobs([value], HASH, 6)


@given(
    tokens=st.integers(0, 2**32 - 1),
    ids=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**16 - 1),
    id_width=st.integers(0, 255),
    body=st.binary(max_size=64),
)
def test_counts_that_promise_more_than_there_is(tokens, ids, width, id_width, body):
    """With a checksum that is right: nothing is allocated for what a header claims."""
    head = struct.pack("<3sB8sIIHBB", b"SMB", 1, bytes.fromhex(HASH)[:8], tokens, ids, width, id_width, 0)
    blob = head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body
    if len(body) == tokens * width + ids * id_width and id_width <= 4 and width == 6 and ids <= 1 << 20:
        assert len(unpack_blobs([blob], HASH, 6).token_ids) == ids
    else:
        with pytest.raises(CodecError, match="blob 0: "):
            unpack_blobs([blob], HASH, 6)


def test_codes_of_no_codec_are_refused_where_they_are_used(sample):
    """A blob with a right checksum and a centroid that is not there."""
    codec = fit_codec("codebook", sample)
    blob = pack_blob(codec.hash, np.full((2, codec.bytes_per_token), 255, np.uint8))
    found = codec.read_blobs([blob])
    with pytest.raises(CodecError):
        codec.decode(found.codes)
    with pytest.raises(CodecError):
        codec.best_similarities(codec.prepare(np.ones((1, DIM), np.float32)), found.codes, found.offsets)


def test_blobs_of_another_codec_are_refused(sample):
    one, other = (fit_codec("anchored+3vq+norm", sample, seed=seed) for seed in (0, 1))
    assert one.bytes_per_token == other.bytes_per_token
    with pytest.raises(CodecError, match=f"blob 0: found codec {one.hash[:16]}; expected {other.hash[:16]}"):
        other.read_blobs(one.encode_blobs(sample[0:1]))


def test_versions_to_come_are_refused_by_their_number():
    blob = bytearray(pack_blob(HASH, np.zeros((1, 6), np.uint8)))
    blob[3] = 2
    with pytest.raises(CodecError, match="version 2"):
        unpack_blobs([bytes(blob)], HASH, 6)


def test_a_codec_is_saved_and_loaded(codec, sample, tmp_path):
    path = codec.save(tmp_path / "deep" / "codec.smart")
    same = Codec.load(path)
    assert (same.hash, same.name) == (codec.hash, codec.name)
    assert same.encode_blobs(sample) == codec.encode_blobs(sample)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    (tmp_path / "broken").write_bytes(data)
    refused = ["broken", "missing", "deep"]
    for name in refused if codec.to_arrays() else refused[1:]:
        with pytest.raises(CodecError, match=name):
            Codec.load(tmp_path / name)


def test_the_hash_is_of_what_was_fitted(sample):
    codec = fit_codec("int8", sample)
    assert codec.hash == fit_codec("int8", sample).hash == Codec.from_bytes(codec.to_bytes()).hash
    assert codec.hash != fit_codec("int8", documents(40, 9)).hash
    assert fit_codec("float16", sample).hash != fit_codec("float32", sample).hash
