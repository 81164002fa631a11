"""A whole network on the fused kernel mirrors bit for bit."""

import pytest
import torch
from test_cpu import _shared_out, last  # noqa: F401
from test_folded import same_bits
from torch import nn

import symmetric_layers.torch as layers
from symmetric_layers.letters import axes
from symmetric_layers.torch.kernels import library

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=f"{library.missing()}")


def network(kind):
    """Every layer of it mirrors bit for bit, at every size."""
    symmetry = {kind: 16}
    more = {"symmetry": symmetry, "grid": "mirrored", "algorithm": "cpu"}
    torch.manual_seed(0)
    net = nn.Sequential(
        layers.SymmetricConv2d(1, 16, 5, padding=2, **more), nn.ReLU(),
        layers.OrbitBatchNorm2d(16, symmetry=symmetry),
        layers.Mirrored(nn.MaxPool2d(3, 2, 1), symmetry),
        layers.SymmetricConv2d(16, 16, 3, 2, 1, in_symmetry=symmetry, **more), nn.ReLU(),
        layers.SymmetricConv2d(16, 16, 1, in_symmetry=symmetry, bias=False, **more),
        layers.OrbitPool(symmetry, "max"),
    )  # fmt: skip
    net[2].running_mean.normal_()
    net[2].running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("positions", [(32, 40), (33, 41), (38, 27)])
@pytest.mark.parametrize("kind", ["h", "hv"])
def test_a_whole_network_mirrors_bit_for_bit(kind, positions, threads):
    net = network(kind)
    x = torch.randn(2, 1, *positions, generator=torch.Generator().manual_seed(1))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            for letters in ["h"] if kind == "h" else ["h", "v", "hv"]:
                straight, turned = net(x), net(x.flip(axes(letters)))
                assert same_bits(turned, straight.flip(axes(letters)))
                for reduce in (lambda y: y.amax((-2, -1)), layers.MirrorMean()):
                    assert same_bits(reduce(turned), reduce(straight))
    finally:
        torch.set_num_threads(before)


def test_a_network_in_channels_last_answers_alike():
    net = network("hv")
    x = torch.randn(2, 1, 24, 25, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(net.to(memory_format=torch.channels_last)(last(x)), net(x))
