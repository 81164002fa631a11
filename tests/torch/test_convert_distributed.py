"""Two processes that share the work teach a converted network what one process teaches it from the joined batch."""

import pytest
import torch
import workers
from networks_torch import RESIDUAL
from test_works_with_distributed import train

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch knows no other process"),
    # third parties: dynamo sees what it hides from everybody but pytest, and caches that it does not need
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


@pytest.fixture(scope="module")
def alone():
    """What one process learns from the joined batch."""
    network = RESIDUAL.network()
    workers.step(network, slice(None), RESIDUAL)
    return {
        "gradients": {key: value.grad for key, value in network.named_parameters()},
        "state": network.state_dict(),
        "output": network(RESIDUAL.input()).detach(),
    }


def test_two_processes_that_average_their_gradients_learn_what_one_learns(alone, tmp_path):
    for answer in train("converted_data_parallel", tmp_path):
        torch.testing.assert_close(answer["gradients"], alone["gradients"])
        torch.testing.assert_close(answer["state"], alone["state"])


def test_two_processes_that_each_hold_a_share_learn_what_one_learns(alone, tmp_path):
    answers = train("converted_fully_sharded", tmp_path)
    stored = sum(value.numel() for value in RESIDUAL.network().parameters())
    assert sum(answer["held"] for answer in answers) == stored
    assert all(0.2 * stored < answer["held"] < 0.8 * stored for answer in answers)
    for answer in answers:
        torch.testing.assert_close(answer["gradients"], alone["gradients"])
        torch.testing.assert_close(answer["output after loading"], alone["output"])
    torch.testing.assert_close(dict(answers[0]["state"]), dict(alone["state"]))
    fresh = RESIDUAL.network(seed=8)
    compiled = torch.compile(fresh, fullgraph=True, backend="eager")
    fresh.load_state_dict(answers[0]["state"])
    torch.testing.assert_close(compiled(RESIDUAL.input()), answers[0]["output"])
