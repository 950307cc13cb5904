"""The package's face: lazy names, named errors, optional extras, progress on stderr."""

import subprocess
import sys
import textwrap

import pytest

import smart_retrieval
from smart_retrieval import errors
from smart_retrieval.extras import require
from smart_retrieval.progress import progress, wants_progress


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_nothing_heavy():
    loaded = python(
        """
        import sys
        import smart_retrieval
        heavy = {"torch", "numpy", "transformers", "sentence_transformers", "safetensors", "scipy", "rich", "typer"}
        print(sorted(heavy & {name.split(".")[0] for name in sys.modules}), "SmartModel" in dir(smart_retrieval))
        """
    )
    assert loaded == "[] True"


def test_errors_are_reachable_without_torch():
    loaded = python(
        """
        import sys
        from smart_retrieval import SmartError
        print(SmartError.__name__, "torch" in sys.modules, "numpy" in sys.modules)
        """
    )
    assert loaded == "SmartError False False"


def test_every_public_name_resolves_and_is_listed():
    for name in smart_retrieval.__all__:
        assert getattr(smart_retrieval, name) is not None
    assert set(smart_retrieval.__all__) <= set(dir(smart_retrieval))
    assert smart_retrieval.SmartModel.__module__ == "smart_retrieval.model.smart_model"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'SmartModle'"):
        _ = smart_retrieval.SmartModle
    with pytest.raises(ImportError):
        from smart_retrieval import nothing_of_the_kind  # noqa: F401


def test_every_error_is_a_smart_error_and_keeps_its_message():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    named = [kind for kind in kinds if not issubclass(kind, Warning)]
    assert len(named) > 10
    for kind in named:
        assert issubclass(kind, errors.SmartError)
        assert str(kind("found x, expected y")) == "found x, expected y"
    assert issubclass(errors.SmartWarning, UserWarning)
    assert not issubclass(errors.SmartWarning, errors.SmartError)


def test_one_of_names_what_was_found_and_what_is_allowed():
    assert errors.one_of(3, ["b", "a"]) == "found 3, expected one of 'a', 'b'"


def test_require_gives_the_module_or_the_pip_line():
    import json

    assert require("json", "eval") is json
    with pytest.raises(errors.MissingExtraError, match=r'pip install "smart-retrieval\[plot\]"') as caught:
        require("no_such_module_at_all", "plot")
    assert "no_such_module_at_all" in str(caught.value)
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("show", [True, False, None])
def test_progress_never_writes_to_stdout(show, capsys):
    with progress("Encoding things", 3, show=show) as advance:
        advance(2)
        advance(1)
    written = capsys.readouterr()
    assert written.out == ""
    assert ("Encoding things" in written.err) == (show is True)


def test_progress_is_drawn_on_a_terminal_only(monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=terminal: answer)
        assert wants_progress(None) is terminal
        assert wants_progress(True) is True
        assert wants_progress(False) is False
