"""Several processes: each item once, values in order, and nobody waits for ever for one that has gone."""

import time

import pytest
from tests.processes import run_processes

from stmulnet import distributed
from stmulnet.errors import ConfigError, StmulnetError

PRELUDE = "from datetime import timedelta\nimport os, sys, time\nfrom stmulnet import distributed\n"


def test_a_process_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.processes() as place:
        assert place == (0, 1)
        assert list(distributed.share(3)) == [0, 1, 2]
        assert distributed.gather("x") == ["x"]
        assert distributed.own_device("cpu").type == "cpu"


def test_every_item_is_one_process_s_and_values_come_in_order() -> None:
    code = """
with distributed.processes() as (rank, world):
    assert distributed.start() == (rank, world) == distributed.place()
    if rank == 0:
        time.sleep(0.5)
    print(distributed.gather({"rank": rank, "share": list(distributed.share(7))}))
assert distributed.place() == (0, 1)
"""
    first, second = run_processes(PRELUDE + code)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    expected = [{"rank": 0, "share": [0, 2, 4, 6]}, {"rank": 1, "share": [1, 3, 5]}]
    assert first.stdout == second.stdout == f"{expected}\n"


HANG = "time.sleep(25); os._exit(3)"


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(3)",
        pytest.param("distributed.stop(); sys.exit(3)", marks=pytest.mark.slow),
        pytest.param(HANG, marks=pytest.mark.slow),
    ],
)
def test_one_that_has_gone_ends_the_others(end: str) -> None:
    """The last one does not die, but does not answer either."""
    code = f"""
from stmulnet.errors import StmulnetError
rank, _ = distributed.start(timeout=timedelta(seconds=10))
distributed.gather(rank)
if rank == 1:
    {end}
start = time.monotonic()
try:
    distributed.gather(rank)
except StmulnetError as error:
    print(time.monotonic() - start, error)
    os._exit(2)
"""
    before = time.monotonic()
    first, second = run_processes(PRELUDE + code)
    assert (first.returncode, second.returncode) == (2, 3), first.stderr + second.stderr
    seconds, _, message = first.stdout.partition(" ")
    assert float(seconds) < 20
    assert message.startswith("another process of this run has ended, or does not answer; see what it said (")
    assert time.monotonic() - before < 60


def test_an_environment_that_is_not_torchrun_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set; start several"):
        distributed.start()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="1 or more, got 'two'"):
        distributed.start()


def test_the_others_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    values = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StmulnetError, match="cannot join the other processes"):
        distributed.start(timeout=timedelta(seconds=1))
    assert distributed.place() == (0, 1)
