"""One codec for several indexes: fitted once, named by its hash, kept through what an index does later."""

import pytest
from fixtures.commands import loaded, run
from fixtures.indexes import documents

from smart_retrieval import Codec, SmartIndex
from smart_retrieval.errors import CodecError
from smart_retrieval.index.codec.factory import fit_codec
from smart_retrieval.index.shared_codec import fit_shared_codec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("docs")
    for number in range(12):
        (path / f"{number}.txt").write_text(f"The otter number {number} swims in the cold river and eats fish.\n" * 3)
    return path


def test_indexes_share_one_codec(make, tmp_path):
    codec = fit_codec("anchored+3vq+norm", documents(200, 1))
    file = codec.save(tmp_path / "codec.smart")
    found = []
    for given in (codec, file, str(file)):
        index = make(documents(20, 2), codec=given)
        found.append(index)
        assert index.codec().hash == codec.hash
        assert index.info()["codec"] == index.info()["codec_wanted"] == "anchored+3vq+norm"
    queries = documents(4, 3)
    hits = [[(hit.id, hit.score) for one in index.search(queries, 5) for hit in one] for index in found]
    assert hits[0] == hits[1] == hits[2]


def test_it_stays_when_an_index_is_optimized_or_opened_again(make, smart, tmp_path):
    codec = fit_codec("codebook", documents(200, 1))
    index = make(documents(20, 2), codec=codec)
    index.optimize()
    assert make.again(index).codec().hash == codec.hash
    with pytest.raises(CodecError, match="may share"):
        index.optimize(refit=True)
    file, other = codec.save(tmp_path / "one"), fit_codec("codebook", documents(200, 5))
    for given in (None, codec, file, "codebook"):
        SmartIndex.open_or_create(index.path, smart("mean"), codec=given).close()
    with pytest.raises(CodecError, match=f"{codec.hash}.*{other.hash}"):
        SmartIndex.open_or_create(index.path, smart("mean"), codec=other)
    plain = make(documents(3, 2), codec="codebook")
    with pytest.raises(CodecError, match="of its own"):
        SmartIndex.open_or_create(plain.path, smart("mean"), codec=codec)


def test_a_codec_of_another_model_is_refused(make, tmp_path):
    sample = documents(200, 1)
    narrow = fit_codec(
        "anchored", type(sample)(sample.anchors[:, :8], sample.token_vectors, sample.offsets, sample.token_ids)
    )
    with pytest.raises(CodecError, match=r"32 \(token\) and 8 \(anchor\)"):
        make(codec=narrow)
    with pytest.raises(CodecError, match="cannot be read"):
        make(codec=tmp_path / "missing.smart")
    with pytest.raises(CodecError, match=r"nowhere/codec\.smart"):
        make(codec="nowhere/codec.smart")


def test_an_index_gives_its_codec_or_one_fitted_to_its_documents(make):
    index = make(documents(100, 4), codec="float32")
    fitted = fit_shared_codec(index.path, "codebook+4x2", index.model)
    assert fitted.name == "codebook+4x2"
    shared = make(documents(10, 5), codec=fitted)
    assert fit_shared_codec(shared.path, "codebook+4x2", shared.model).hash == fitted.hash
    with pytest.raises(CodecError, match="too coarse"):
        fit_shared_codec(shared.path, "int8", shared.model)
    with pytest.raises(CodecError, match="no documents"):
        fit_shared_codec(make(codec="float32").path, "int8", shared.model)


def test_commands_fit_show_and_use_one(folder, tiny, tmp_path):
    file, model = tmp_path / "codec.smart", tiny("mean")
    fitted = loaded(run("codec", "fit", folder, "--out", file, "--codec", "codebook+4x2", "--model", model, "--json"))
    assert fitted["hash"] == Codec.load(file).hash
    assert loaded(run("codec", "info", file, "--json")) == fitted
    assert fitted["hash"] in run("codec", "info", file).stdout
    for name in ("a", "b"):
        loaded(run("index", folder, "--index", tmp_path / name, "--model", model, "--codec", file, "--json"))
        with SmartIndex.open(tmp_path / name) as index:
            assert index.codec().hash == fitted["hash"]
    again = loaded(run("codec", "fit", tmp_path / "a", "--out", tmp_path / "c", "--codec", "codebook+4x2", "--json"))
    assert again["hash"] == fitted["hash"]


def test_commands_say_what_is_wrong(tmp_path, folder):
    (tmp_path / "text").write_text("no codec")
    result = run("codec", "info", tmp_path / "text")
    assert isinstance(result.exception, CodecError)
    result = run("codec", "fit", folder, "--out", tmp_path / "x", "--codec", "zip")
    assert isinstance(result.exception, CodecError)
    assert not (tmp_path / "x").exists()
