"""The public names of ``smart_retrieval.training``."""

import subprocess
import sys
from types import FunctionType

import smart_retrieval.training as training


def test_every_public_name_is_there():
    assert set(dir(training)) >= set(training.__all__)
    for name in training.__all__:
        assert getattr(training, name).__module__.startswith("smart_retrieval.training.")


def test_finetune_is_the_function_whatever_was_imported_before():
    import smart_retrieval.training.backbone.finetune  # noqa: F401 (a module that ends in the same name)

    assert isinstance(training.finetune, FunctionType)
    assert isinstance(training.train_adapter, FunctionType)


def test_importing_the_package_imports_neither_torch_nor_numpy():
    code = "import sys, smart_retrieval.training as t; t.__all__; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
