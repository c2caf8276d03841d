"""What several processes agree on, with stand-ins for the others."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stmulnet import distributed
from stmulnet.errors import StmulnetError
from stmulnet.training.processes import check_alike, sum_gradients


def processes(rank: int, others: list[torch.Tensor]) -> Any:
    """A Fabric of two processes; the other one sends these tensors, in order."""
    return SimpleNamespace(
        world_size=2,
        global_rank=rank,
        device=torch.device("cpu"),
        all_reduce=lambda tensor, reduce_op: tensor + others.pop(0),
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_that_start_differently_are_refused_in_all(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has 7, the second 8."""
    monkeypatch.setattr(distributed, "gather", lambda own: [own, 8] if rank == 0 else [7, own])
    with pytest.raises(StmulnetError, match="the processes have different weights to start from: all need the same"):
        check_alike(7 + rank, "weights")
    monkeypatch.setattr(distributed, "gather", lambda own: [own, 7] if rank == 0 else [7, own])
    check_alike(7, "weights")


def test_gradients_are_summed_where_one_process_has_none() -> None:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    parameters[0].grad = torch.randn(3, 2).T  # not contiguous
    before, other = parameters[0].grad.clone(), torch.randn(10)
    sum_gradients(processes(0, [other.clone()]), parameters)
    assert parameters[0].grad is not None
    assert torch.equal(parameters[0].grad, before + other[:6].view(2, 3))
    assert parameters[1].grad is not None
    assert torch.equal(parameters[1].grad, other[6:])
