"""Which device and processes a training takes, by the environment; trainings in several processes: test_killed.py."""

import pytest
import torch

from stmulnet.errors import ConfigError
from stmulnet.training import processes
from stmulnet.training.processes import check_device, start_fabric

TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def test_an_environment_that_is_not_torchrun_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes that could not find each other would wait for ever."""
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"MASTER_PORT is not set; start several processes with torchrun"):
        start_fabric("cpu", "float32", "official")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="WORLD_SIZE is the number of processes, 1 or more, got 'two'"):
        start_fabric("cpu", "float32", "official")


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="device 'cuda:1' is one GPU for 8 processes"):
        check_device("cuda:1", "float32", "official")
    with pytest.raises(ConfigError, match="4 processes on a machine with 2 GPUs: start one per GPU"):
        check_device("cuda", "float32", "official")
    assert check_device("cpu", "float32", "official").type == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert check_device("cuda", "float32", "official").type == "cuda"


def test_one_process_may_choose_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes, "choose_device", torch.device)
    assert check_device("cuda:1", "fp16", "sync") == torch.device("cuda:1")
