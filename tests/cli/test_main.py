"""The root command: help, errors in one line, exit statuses, streams."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from smart_retrieval import __version__
from smart_retrieval.cli import options
from smart_retrieval.cli.main import app

RUN = [sys.executable, "-c", "from smart_retrieval.cli.main import main; main()"]


def smart(*arguments, code=""):
    command = [sys.executable, "-c", f"{code}\nfrom smart_retrieval.cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_command_and_loads_nothing_heavy():
    watch = (
        "import atexit, sys\n"
        "heavy = {'torch', 'numpy', 'transformers', 'sentence_transformers', 'rich'}\n"
        "atexit.register(lambda: print('LOADED', sorted(heavy & set(sys.modules))))"
    )
    done = smart("--help", code=watch)
    assert done.returncode == 0
    for command in ("eval", "inspect", "demo"):
        assert command in done.stdout
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize("command", [[], ["eval"], ["eval", "beir"], ["inspect"], ["demo"]])
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def commands_with_a_model(command, path=()):
    """The path and the options of every command that loads a model by its name."""
    if inner_commands := getattr(command, "commands", None):
        for name, inner in inner_commands.items():
            yield from commands_with_a_model(inner, (*path, name))
    elif "model" in {parameter.name for parameter in command.params}:
        yield path, command


def test_a_wrong_path_of_a_model_is_said_before_anything_is_loaded(tmp_path):
    for path, command in commands_with_a_model(typer.main.get_command(app)):
        (model,) = (parameter for parameter in command.params if parameter.name == "model")
        assert model.callback is not None, path
    watch = (
        "import atexit, sys\n"
        "heavy = {'torch', 'numpy', 'transformers', 'sentence_transformers', 'fastapi'}\n"
        "atexit.register(lambda: print('LOADED', sorted(heavy & set(sys.modules))))"
    )
    wrong = str(tmp_path / "nope")
    for arguments in (["demo"], ["search", "a.smart", "query"], ["serve", "a.smart"], ["mcp", "a.smart"]):
        done = smart(*arguments, "--model", wrong, code=watch)
        assert done.returncode == 1
        assert (
            done.stderr == f"smart: error: model {wrong!r}: found no such folder; check the path, or give a hub name\n"
        )
        assert done.stdout == "LOADED []\n"
    done = smart("inspect", "")
    assert (done.returncode, "found an empty name" in done.stderr) == (1, True)


def test_every_command_that_loads_a_model_takes_the_same_options():
    found = dict(commands_with_a_model(typer.main.get_command(app)))
    # Of an index the manifest has them; a new one takes what it records.
    recorded = {
        ("search",),
        ("explain",),
        ("verify",),
        ("optimize",),
        ("delete",),
        ("info",),
        ("serve",),
        ("mcp",),
    } & set(found)
    as_saved = {("encode",), ("codec", "fit")}  # so that all processes, and all users of the codec, have the same
    limits = {"max_visual_tokens", "max_frames", "video_budget", "truncate_dim"}
    for path, command in found.items():
        names = {parameter.name for parameter in command.params}
        if path in recorded | as_saved or path == ("demo",):
            continue
        wanted = limits if path == ("index",) else set(options.MODEL_OPTIONS)
        assert wanted <= names, path
        assert "model_options" not in names
    assert {("eval", "beir"), ("eval", "layers"), ("probe",), ("tune",), ("train", "adapter"), ("inspect",)} <= set(
        found
    )


def test_options_of_a_model_reach_it(tiny, tmp_path):
    arguments = ["inspect", str(tiny("mean")), "--truncate-dim", "8", "--max-length", "5", "--json"]
    found = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (found["anchor_dim"], found["max_length"]) == (8, 5)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "otters"}\n{"_id": "e", "text": "tax"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "otter"}\n')
    (tmp_path / "qrels/test.tsv").write_text("q\td\t1\n")
    arguments = ["eval", "beir", str(tmp_path), "--model", str(tiny("mean")), "--no-cache", "--json"]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--truncate-dim", "8", "--max-length", "5"]).stdout)
    assert (found["rows"][0]["bytes_per_document"], found["encode"]["max_length"]) == (32, 5)
    refused = CliRunner().invoke(app, [*arguments, "--truncate-dim", "9999"])
    assert "truncate_dim: found 9999" in str(refused.exception)


def test_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"smart-retrieval {__version__}\n"


def test_a_named_error_is_one_line_and_status_1(tmp_path):
    done = smart("info", str(tmp_path / "nowhere"))  # which needs no torch
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("smart: error: ")
    assert "nowhere" in done.stderr
    assert done.stderr.count("\n") == 1


BROKEN = (
    "import smart_retrieval.model.describe as d\n"
    "def broken(model, **k):\n    raise KeyError('line one\\nline two')\nd.describe_model = broken\n"
)


def test_an_unexpected_error_is_one_line_that_asks_for_a_report():
    done = smart("inspect", "x", code=BROKEN)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("smart: error: an unexpected KeyError (")
    assert "smart --debug" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_disk_of_a_librarys_own_words_is_no_unexpected_error():
    code = BROKEN.replace("KeyError('line one\\nline two')", "RuntimeError('I/O error: No space left on device')")
    done = smart("inspect", "x", code=code)
    assert done.stderr == "smart: error: the disk is full (I/O error: No space left on device)\n"


@pytest.mark.parametrize(("options", "set"), [(["--debug"], ""), ([], "1")])
def test_debug_shows_where_an_error_was_raised(options, set, tmp_path):
    for command, error in ((["inspect", "x"], "KeyError"), (["verify", str(tmp_path)], "IndexFormatError")):
        done = smart(*options, *command, code=f"import os; os.environ['SMART_DEBUG'] = {set!r}\n{BROKEN}")
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert error in done.stderr
        assert done.stderr.splitlines()[-1].startswith("smart: error: ")


@pytest.mark.parametrize("wrong", [["inspct"], ["eval", "beir"], ["inspect", "--no-such-option"]])
def test_wrong_usage_is_status_2(wrong):
    done = smart(*wrong)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage" in done.stderr


def test_warnings_reach_a_log_file_too():
    code = "import warnings, smart_retrieval.cli.inspect as i\nfrom smart_retrieval.errors import SmartWarning\n"
    code += "import typer, smart_retrieval.model.describe as d\n"
    code += "def fake(model, **k):\n    warnings.warn('counted', SmartWarning)\n"
    code += "    return {'model': model, 'smart': {'applies': False, 'reason': 'none'}}\nd.describe_model = fake\n"
    done = smart("inspect", "x", code=code)
    assert done.stderr == "smart: warning: counted\n"
    assert "SMART applies" in done.stdout
    assert done.returncode == 1, "a model SMART does not apply to is no success"


FAKE = "import smart_retrieval.model.describe as d\nd.describe_model = lambda *a, **k: {'smart': {'applies': True}}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["inspect", "minilm"], ["inspect", "minilm", "--json"]])
def test_a_closed_pipe_ends_quietly_whatever_writes_to_it(arguments):
    code = f"{FAKE}d.render_description = lambda found: 'text'\nfrom smart_retrieval.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    _, errors = process.communicate()
    assert (errors, process.returncode) == ("", 141)


@pytest.mark.parametrize("arguments", [["inspect", "/no/such"], ["probe", "--data", "/no/such"]])
def test_a_wrong_path_is_said_before_anything_heavy_is_loaded(arguments):
    watch = "import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))"
    done = smart(*arguments, code=watch)
    assert (done.stdout, done.returncode) == ("False\n", 1)
    assert "found no" in done.stderr
