"""Averages of layers over time are layers: exponential averages, stochastic weight averages, folded norms."""

import copy

import pytest
import torch
from cases_torch import CONVOLUTIONS, MIXED, NETWORK, STORING, Case, all_filters, name, written_out
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from symmetric_layers.torch import OrbitBatchNorm2d, SymmetricConv2d


@pytest.mark.parametrize("case", STORING, ids=name)
def test_an_exponential_average_moves_slowly_to_what_is_learnt(case: Case) -> None:
    old, new = case.layer(seed=1), case.layer(seed=2)
    layer = copy.deepcopy(old)
    averaged = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    averaged.update_parameters(layer)
    layer.load_state_dict(new.state_dict())
    averaged.update_parameters(layer)
    expected = {key: 0.75 * value + 0.25 * new.get_parameter(key) for key, value in old.named_parameters()}
    torch.testing.assert_close(dict(averaged.module.named_parameters()), expected)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_the_average_of_two_convolutions_gives_the_average_of_their_answers(case: Case) -> None:
    first, second, x = case.layer(seed=1), case.layer(seed=2), case.input()
    averaged = AveragedModel(first)
    averaged.update_parameters(first)
    averaged.update_parameters(second)
    torch.testing.assert_close(averaged(x), (first(x) + second(x)) / 2)
    torch.testing.assert_close(all_filters(averaged.module), written_out(averaged.module), rtol=0, atol=0)


def test_an_averaged_network_gets_its_statistics_from_the_data() -> None:
    network, batches = NETWORK.layer(), [NETWORK.input(), NETWORK.input().flip(0) + 1]
    averaged = AveragedModel(network)
    averaged.update_parameters(network)
    update_bn(batches, averaged)
    norm, seen = averaged.module.norm, network.first(torch.cat(batches))
    orbits = [*(range(first, first + 2) for first in range(0, 8, 2)), *(range(first, first + 4) for first in (8, 12))]
    expected = torch.stack([seen[:, list(orbit)].mean() for orbit in orbits])
    torch.testing.assert_close(norm.running_mean, expected)
    assert norm.num_batches_tracked == len(batches)


@pytest.mark.parametrize("bias", [False, True])
def test_an_orbit_norm_folds_into_the_convolution_before_it(bias: bool) -> None:
    torch.manual_seed(0)
    conv = SymmetricConv2d(2, 16, 3, bias=bias, symmetry=MIXED).eval()
    norm = OrbitBatchNorm2d(16, symmetry=MIXED).eval()
    for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(value, 0.5, 1.5)
    folded = fuse_conv_bn_eval(conv, norm)
    x = torch.randn(3, 2, 6, 6)
    torch.testing.assert_close(folded(x), norm(conv(x)))
    torch.testing.assert_close(all_filters(folded), written_out(folded), rtol=0, atol=0)
