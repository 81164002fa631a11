"""Converted networks are traced by `torch.fx`: what conversion brings are leaves, or follows what is learnt."""

import pytest
import torch
from test_convert_own import Standardised, network
from test_convert_padded import Encoder, Pooled
from test_convert_tables import Maps
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

from symmetric_layers.torch import equivariant


class Slopes(nn.Module):
    """Numbers for every channel, outside layers."""

    def __init__(self):
        super().__init__()
        self.stem, self.gain = nn.Conv2d(1, 8, 3, padding=1), nn.Parameter(torch.rand(8, 1, 1))
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return self.out(F.relu(self.stem(x)) * self.gain)


SMALL = torch.randn(2, 1, 6, 5)
NETWORKS = {
    "slopes": (Slopes, SMALL),
    "tables": (Maps, SMALL),
    "padded": (lambda: Encoder((0, 1, 0, 1)), torch.randn(1, 2, 8, 6)),
    "pooled": (lambda: Pooled(nn.MaxPool2d(2, 1)), SMALL),
    "own": (lambda: network(Standardised), torch.randn(1, 3, 9, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_traces_answer_alike_and_see_what_is_learnt(name):
    build, x = NETWORKS[name]
    new = nn.Sequential(equivariant(build(), "h", example=x, measure=False).eval(), nn.Identity())
    traced = symbolic_trace(new)
    assert {*traced.state_dict()} == {*new.state_dict()}
    torch.testing.assert_close(traced(x), new(x))
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(traced(x), new(x))
    assert not [node for node in traced.graph.nodes if "_tensor_constant" in str(node.target)]
