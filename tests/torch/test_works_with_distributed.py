"""Two processes that share the work learn what one process learns from the joined batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import workers
from cases_torch import NETWORK_EVAL

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch knows no other process")


def train(way: str, folder: Path, processes: int = 2) -> list[dict]:
    """Starts the processes on this machine, waits for all of them, and reads what each has written down."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    running = [
        subprocess.Popen(
            [sys.executable, workers.__file__, way, str(folder)],
            env={**common, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        complaints = [process.communicate(timeout=120)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes, "\n".join(complaints)
    return [torch.load(folder / f"{way}_{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(scope="module")
def alone() -> dict:
    """What one process learns from the joined batch."""
    network = workers.network()
    workers.step(network, slice(None))
    return {
        "gradients": {key: value.grad for key, value in network.named_parameters()},
        "state": network.state_dict(),
        "output": network(NETWORK_EVAL.input()).detach(),
    }


def test_two_processes_that_average_their_gradients_learn_what_one_learns(alone: dict, tmp_path: Path) -> None:
    for answer in train("data_parallel", tmp_path):
        torch.testing.assert_close(answer["gradients"], alone["gradients"])
        torch.testing.assert_close(answer["state"], alone["state"])


def test_two_processes_that_each_hold_a_share_learn_what_one_learns(alone: dict, tmp_path: Path) -> None:
    answers = train("fully_sharded", tmp_path)
    stored = sum(value.numel() for value in workers.network().parameters())
    assert sum(answer["held"] for answer in answers) == stored
    assert all(0.25 * stored < answer["held"] < 0.75 * stored for answer in answers)
    for answer in answers:
        torch.testing.assert_close(answer["gradients"], alone["gradients"])
        torch.testing.assert_close(answer["output"], alone["output"])
        torch.testing.assert_close(answer["output after loading"], alone["output"])
    torch.testing.assert_close(dict(answers[0]["state"]), dict(alone["state"]))
