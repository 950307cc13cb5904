"""The public names of ``smart_retrieval.evaluation``."""

import subprocess
import sys

import pytest

from smart_retrieval import evaluation


def test_importing_loads_nothing_heavy():
    code = "import sys, smart_retrieval.evaluation; print({'torch', 'numpy', 'rich', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", evaluation.__all__)
def test_every_public_name_resolves(name):
    assert getattr(evaluation, name) is not None
    assert name in dir(evaluation)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'evaluate_bier'"):
        _ = evaluation.evaluate_bier
