"""Provenance: what is recorded, and the secrets that must not be."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_retrieval.evaluation import provenance
from smart_retrieval.evaluation.provenance import MASK, command, commit, limits, masked, run_facts, stable, versions

SECRET = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7j"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--token", "hunter2"],
        ["--hf-token=hunter2"],
        ["--api-key", "hunter2"],
        ["--api_key=hunter2"],
        ["--password", "hunter2"],
        ["--secret", "-hunter2"],
        ["HF_TOKEN=hunter2"],
        ["AWS_SECRET_ACCESS_KEY=hunter2"],
        ["https://me:hunter2@example.org/data"],
        ["https://hunter2@example.org/data"],
        ["https://example.org/data?x=1&access_token=hunter2&y=2"],
        ["Authorization: Bearer hunter2"],
    ],
)
def test_secrets_by_name(arguments):
    shown = masked(arguments)
    assert "hunter2" not in " ".join(shown)
    assert MASK in " ".join(shown)
    assert "hunter2" not in command(["smart", "eval", *arguments])


@pytest.mark.parametrize(
    "secret",
    ["hf_" + "a" * 34, "sk-proj-0123456789abcdef", "ghp_" + "Z" * 36, "github_pat_" + "1" * 30, "AKIA0123456789ABCDEF",
     "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", SECRET],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "--x={}", "x={}", "the word {} in a text"])
def test_secrets_by_form(secret, around):
    assert masked([around.format(secret)]) == [around.format(MASK)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "Qwen/Qwen3-VL-Embedding-2B", "--revision", "0123456789abcdef0123456789abcdef01234567"],
        ["--max-visual-tokens", "768", "--max-tokens=256", "--token-filter", "content", "--pretokenized", "x"],
        ["/data/Very-Long-Folder2/UPPER_lower_0123456789_abcdefghij/corpus.jsonl"],
        ["https://example.org/data?page=2#part", "--codec", "codebook+32x1/pool2", "--layer", "-1,-2"],
        ["-t", "ViDoRe(v2)", "--keyword", "x", "--monkey", "y", "a=b"],
    ],
)
def test_ordinary_arguments_stay(arguments):
    assert masked(arguments) == arguments


def test_an_option_without_a_value_hides_no_other_option():
    assert masked(["--token", "--out", "file"]) == ["--token", "--out", "file"]


@given(st.lists(st.text(max_size=12).filter(lambda word: MASK not in word), max_size=6))
def test_a_command_without_secrets_can_be_pasted(arguments):
    shown = command(["smart", *arguments])
    if MASK not in shown and str(Path.home()) not in "".join(arguments) and "~" not in shown:
        assert shlex.split(shown) == ["smart", *arguments]


def test_the_environment_is_never_written(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr(sys, "argv", ["/opt/bin/smart", "report", "x y", f"{Path.home()}/results"])
    facts = run_facts()
    assert facts["command"] == "smart report 'x y' ~/results"
    assert SECRET not in json.dumps(facts)
    assert set(facts) == {"date", "commit", "machine", "command"}
    assert set(facts["machine"]) == {"cpu", "cores", "memory_gib", "gpu", "system", "python"}


def test_scripts():
    assert command(["benchmarks/quality.py", "a"]) == "python benchmarks/quality.py a"
    assert command(["-c"]) == "python -c"


def test_versions():
    found = versions(["no-such-package"])
    assert found["no_such_package"] == "unknown"
    assert found["torch"] != "unknown"


def test_the_commit_is_of_a_checkout_of_this_package_only(tmp_path, monkeypatch):
    """A virtual environment inside another project's checkout must not give that project's commit."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    package = tmp_path / "venv/smart_retrieval"
    (package / "evaluation").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    subprocess.run([*git, "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "other.py").write_text("")
    subprocess.run([*git, "-C", str(tmp_path), "add", "other.py"], check=True)
    subprocess.run([*git, "-C", str(tmp_path), "commit", "-qm", "x"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "evaluation/provenance.py"))
    assert commit.__wrapped__() is None
    subprocess.run([*git, "-C", str(tmp_path), "add", "-f", "venv"], check=True)
    subprocess.run([*git, "-C", str(tmp_path), "commit", "-qm", "x"], check=True)
    clean = commit.__wrapped__()
    assert clean is not None
    assert len(clean) >= 7
    (package / "__init__.py").write_text("changed = 1\n")
    assert commit.__wrapped__() == f"{clean}+changes"


def test_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit.__wrapped__() is None


def test_limits(smart, tiny_vlm):
    from smart_retrieval import SmartModel

    assert limits(smart("prompts")) == {"max_length": smart("prompts").max_length}
    model = SmartModel(tiny_vlm("qwen3-vl-embedding"), device="cpu", max_visual_tokens=16, max_frames=2)
    assert limits(model) == {"max_length": model.max_length, "max_visual_tokens": 16, "max_frames": 2}


def test_stable_drops_what_differs_between_runs():
    value = {"rows": [{"map": 0.5, "score_ms_per_query": 3.0}], "encode": {"seconds": 1, "revision": "x"}, "run": {}}
    assert stable(value) == {"rows": [{"map": 0.5}], "encode": {"revision": "x"}}
