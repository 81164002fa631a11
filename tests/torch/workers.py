"""What each process of a distributed training does; `test_works_with_distributed.py` starts two of them.

Arguments: the way of training, the folder for the answers. The environment says which process this is.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from cases_torch import NETWORK_EVAL
from networks_torch import RESIDUAL
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

PICTURES = 8


def network() -> nn.Module:
    """The network every process starts with, its statistics fixed: each picture is answered by itself."""
    return NETWORK_EVAL.layer()


def loss(model: nn.Module, part: slice, case: Any = NETWORK_EVAL) -> torch.Tensor:
    """The mean loss of a part of the batch."""
    targets = torch.arange(PICTURES) % 3
    return nn.functional.cross_entropy(model(case.input(PICTURES)[part]), targets[part])


def step(model: nn.Module, part: slice, case: Any = NETWORK_EVAL) -> torch.optim.Optimizer:
    """One backward and one step of an optimizer that tells small gradients from large ones."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    loss(model, part, case).backward()
    optimizer.step()
    return optimizer


def data_parallel(part: slice) -> dict:
    """Every process holds the whole network."""
    return in_parallel(network().eval(), part, NETWORK_EVAL)


def converted_data_parallel(part: slice) -> dict:
    """Every process holds the whole of a network that was converted."""
    return in_parallel(RESIDUAL.network(), part, RESIDUAL)


def in_parallel(network: nn.Module, part: slice, case: Any) -> dict:
    """What a network learns of which every process holds the whole."""
    model = DistributedDataParallel(network)
    step(model, part, case)
    return {
        "gradients": {key: value.grad for key, value in model.module.named_parameters()},
        "state": model.module.state_dict(),
    }


def fully_sharded(part: slice) -> dict:
    """Every process holds its share of what is stored, layer by layer."""
    model = network()
    return in_shares(model, (model.first, model.second, model.up, model.mix), part, NETWORK_EVAL)


def converted_fully_sharded(part: slice) -> dict:
    """Every process holds its share of a network that was converted."""
    model = RESIDUAL.network()
    return in_shares(model, (model.stem, model.act, model.first, model.second, model.squeeze), part, RESIDUAL)


def in_shares(model: nn.Module, layers: Any, part: slice, case: Any) -> dict:
    """What a network learns of which every process holds a share."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    held = sum(value.to_local().numel() for value in model.parameters())
    step(model, part, case)
    whole = StateDictOptions(full_state_dict=True)
    state = get_model_state_dict(model, options=whole)
    answer = {
        "held": held,
        "gradients": {key: value.grad.full_tensor() for key, value in model.named_parameters()},
        "state": state,
        "output": model(case.input()).detach(),
    }
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    set_model_state_dict(model, {key: answer["state"].get(key) for key in state}, options=whole)
    return {**answer, "output after loading": model(case.input()).detach()}


def main(way: str, folder: str) -> None:
    """Joins the other processes, trains on this process's part of the batch, and writes down what came of it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, share = dist.get_rank(), PICTURES // dist.get_world_size()
    part = slice(rank * share, (rank + 1) * share)
    ways = (data_parallel, fully_sharded, converted_data_parallel, converted_fully_sharded)
    answer = next(train for train in ways if train.__name__ == way)(part)
    torch.save(answer, Path(folder) / f"{way}_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(*sys.argv[1:])
