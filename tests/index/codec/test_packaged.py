"""Codecs that the package ships: found by model, named by hash, never copied into an index."""

import json
from importlib.resources import files

import numpy as np
import pytest

from smart_retrieval import SmartEmbeddings, SmartIndex
from smart_retrieval._version import __version__
from smart_retrieval.errors import CodecError, CodecMissingError
from smart_retrieval.index.codec import packaged
from smart_retrieval.index.codec.base import Codec, CodecBytes
from smart_retrieval.index.codec.factory import general_codec
from smart_retrieval.index.smart_index import DEFAULT_CODEC

LISTED = json.loads((files("smart_retrieval.index.codec") / "data" / "codecs.json").read_text(encoding="utf-8"))
#: Every codec that was ever released: indexes name them, so none may go.
RELEASED = [entry["hash"] for entry in LISTED]


def documents(count=6, tokens=9):
    rng = np.random.default_rng(3)
    unit = rng.standard_normal((count * (tokens + 1), 384))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    offsets = np.arange(0, count * tokens + 1, tokens)
    ids = rng.integers(0, 30000, count * tokens)
    return SmartEmbeddings(unit[:count], unit[count:], offsets, ids)


@pytest.mark.parametrize("hash", RELEASED)
def test_every_released_codec_is_there_and_whole(hash):
    codec = Codec.of_package(hash)
    assert Codec.from_bytes(codec.to_bytes(whole=True)).hash == hash == codec.hash
    assert codec.name in {entry["name"] for entry in LISTED if entry["hash"] == hash}


def test_its_bytes_are_its_hash_and_give_the_same_codes():
    codec = Codec.of_package(RELEASED[0])
    short, whole = codec.to_bytes(), codec.to_bytes(whole=True)
    assert len(short) < 500 < 1_000_000 < len(whole) < 5_000_000
    docs = documents()
    again, alone = Codec.from_bytes(short), Codec.from_bytes(whole)
    assert again is codec  # one for all indexes of a process
    assert alone.packaged == ""
    assert (alone.encode_documents(docs) == codec.encode_documents(docs)).all()
    assert alone.to_bytes() == whole


@pytest.mark.parametrize("hash", ["0" * 32, "", "../../../base", "f" * 31, "A" * 32])
def test_a_hash_that_is_not_shipped_says_what_to_do(hash):
    with pytest.raises(CodecMissingError, match=r"9\.8\.7.*pip install 'smart-retrieval>=9\.8\.7'"):
        Codec.of_package(hash, "9.8.7")


def test_a_damaged_file_is_not_taken(monkeypatch):
    damaged = bytearray(packaged.read(RELEASED[0]))
    damaged[-100] ^= 1
    monkeypatch.setattr(packaged, "read", lambda hash, package: bytes(damaged))
    monkeypatch.setattr(Codec, "shipped", {})
    with pytest.raises(CodecError, match="damaged"):
        Codec.of_package(RELEASED[0])


def test_a_shared_copy_is_the_same_codec(tmp_path):
    codec = Codec.of_package(RELEASED[0])
    copy = Codec.load(codec.save(tmp_path / "a.codec"))
    assert copy.packaged == ""
    assert (
        copy.read_blobs(codec.encode_blobs(documents())).codes.tobytes()
        == codec.encode_documents(documents()).tobytes()
    )


def test_damaged_references_are_refused():
    data = Codec.of_package(RELEASED[0]).to_bytes()
    with pytest.raises(CodecError, match="damaged"):
        Codec.from_bytes(data.replace(RELEASED[0].encode(), b"0" * 32))


def test_the_writer_is_noted():
    found = CodecBytes.read(Codec.of_package(RELEASED[0]).to_bytes())
    assert (found.packaged, found.package, found.arrays) == (RELEASED[0], __version__, {})


def test_only_the_model_it_was_made_for_gets_it():
    (entry, *_) = LISTED
    identity, dims = dict(entry["model"]), (384, 384)
    assert general_codec(entry["name"], identity, dims) is Codec.of_package(entry["hash"])
    assert general_codec("float16", identity, dims) is None
    assert general_codec(entry["name"], identity, (256, 384)) is None
    assert general_codec(entry["name"], {**identity, "fingerprint": "another"}, dims) is None
    assert general_codec(entry["name"], {**identity, "readout": {"layers": [-2]}}, dims) is None
    assert general_codec(entry["name"], {}, dims) is None


class TestIndex:
    PASSAGES = ("Log files rotate nightly.", "Oak logs burn slowly.", "Taxes are due in April.", "Otters sleep afloat.")

    def test_it_is_used_from_the_first_document_and_takes_no_room(self, minilm, tmp_path):
        path = tmp_path / "i.smart"
        with SmartIndex.create(path, minilm) as index:
            index.add(self.PASSAGES, ids=list("abcd"))
            info = index.info()
            assert (info["codec"], info["codec_generation"], info["codec_wanted"]) == (DEFAULT_CODEC, 1, DEFAULT_CODEC)
            assert info["codec_packaged"] == RELEASED[0]
            assert index.search("how do I rotate the logs", 1)[0].id == "a"
            index.optimize()
            assert index.info()["codec_generation"] == 1
            assert index.verify().ok
        assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 300_000

    def test_refitting_replaces_it(self, minilm, tmp_path):
        with SmartIndex.create(tmp_path / "i.smart", minilm) as index:
            index.add(self.PASSAGES, ids=list("abcd"))
            index.optimize(refit=True)
            assert (index.info()["codec_generation"], index.info()["codec_packaged"]) == (2, "")
            assert index.search("when are taxes due", 1)[0].id == "c"
            assert index.verify().ok

    def test_an_index_whose_codec_is_not_shipped_says_so(self, minilm, tmp_path, monkeypatch):
        with SmartIndex.create(tmp_path / "i.smart", minilm) as index:
            index.add(self.PASSAGES[:2], ids=["a", "b"])
        monkeypatch.setattr(Codec, "shipped", {})
        monkeypatch.setattr(packaged, "_HASH", packaged.re.compile("none"))
        with SmartIndex.open(tmp_path / "i.smart", minilm) as index, pytest.raises(CodecMissingError, match="install"):
            index.search("logs")

    @pytest.mark.parametrize("options", [{"token_pooling": 2}, {"codec": "anchored+7vq+norm"}])
    def test_what_it_was_not_made_for_begins_in_floats(self, minilm, tmp_path, options):
        with SmartIndex.create(tmp_path / "i.smart", minilm, **options) as index:
            assert index.info()["codec"] == "float16"
