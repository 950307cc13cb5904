"""Processes of a launcher are found by its variables."""

import pytest

from smart_retrieval.errors import SmartError
from smart_retrieval.evaluation.mmeb.processes import Processes, find_processes, own_device


def test_one_process_without_a_launcher(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert find_processes() == Processes()
    assert find_processes().first
    assert own_device() is None


def test_malformed_launcher_variables(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(SmartError, match="RANK or WORLD_SIZE"):
        find_processes()


def test_each_process_has_its_own_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert own_device() == "cuda:1"
