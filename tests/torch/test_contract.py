"""The five promises, kept by the PyTorch layers."""

import numpy as np
import pytest
import torch
from cases import conv_cases, name_of, transpose_cases
from contract import ConvContract, Face, GoldenContract, RefusalContract

import symmetric_layers.torch as layers


class TorchFace(Face):
    def arguments(self, case):
        result = {
            "stride": case.stride,
            "padding": self.no_padding(case) if case.transposed and case.padding == "valid" else case.padding,
            "dilation": case.dilation,
            "groups": case.groups,
            "bias": case.bias is not None,
            "padding_mode": case.mode,
            "dtype": torch.float64,
            "symmetry": case.symmetry,
            "share_bias": case.bias == "shared",
            "in_symmetry": case.in_symmetry,
        }
        if case.transposed:
            result["output_padding"] = self.output_padding(case)
        return result

    def no_padding(self, case):
        """Transposed layers have no word for it."""
        return (0,) * case.rank

    def output_padding(self, case):
        """Only axes with a stride have room for output padding."""
        return tuple(case.output_padding if s > 1 else 0 for s in case.stride)

    def layer(self, case):
        name = f"SymmetricConv{'Transpose' if case.transposed else ''}{case.rank}d"
        return getattr(layers, name)(case.channels, case.filters, case.kernel, **self.arguments(case))

    def turn(self, layer, weight):
        """Between `(stored, channels / groups, ...)` and the layout of transposed weights, both ways."""
        if not layer.transposed:
            return weight
        return weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)

    def stored(self, layer):
        weight = self.turn(layer, layer.weight.detach())
        return weight.numpy(), None if layer.bias is None else layer.bias.detach().numpy()

    def store(self, layer, weight, bias):
        weight = self.turn(layer, torch.from_numpy(weight))
        with torch.no_grad():
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(torch.from_numpy(bias))

    def call(self, layer, x):
        with torch.no_grad():
            return layer(torch.from_numpy(np.ascontiguousarray(x))).numpy()

    def gradients(self, layer, x, g):
        x = torch.from_numpy(x).requires_grad_()
        (layer(x) * torch.from_numpy(g)).sum().backward()
        of_weight = self.turn(layer, layer.weight.grad)
        return x.grad.numpy(), of_weight.numpy(), None if layer.bias is None else layer.bias.grad.numpy()

    def reload(self, layer, case, folder):
        torch.save(layer.state_dict(), folder / "layer.pt")
        fresh = self.layer(case)
        fresh.load_state_dict(torch.load(folder / "layer.pt", weights_only=True), strict=True)
        return fresh

    def geometry(self, case, positions):
        reach = [d * (k - 1) for d, k in zip(case.dilation, case.kernel, strict=True)]
        if case.transposed:
            crops = list(case.padding)
            more = self.output_padding(case)
            axes = zip(positions, case.stride, crops, reach, more, strict=True)
            return crops, [(n - 1) * s - 2 * p + r + 1 + o for n, s, p, r, o in axes]
        if case.padding == "same":
            return [(r // 2, r - r // 2) for r in reach]
        if case.padding == "valid":
            return [(0, 0)] * case.rank
        return [(p, p) for p in case.padding]


def torch_takes(case):
    return not (case.padding == "same" and set(case.stride) != {1})


CONV = conv_cases(
    paddings=[(0, 0, 0), (2, 1, 3), "same", "valid"],
    modes=["zeros", "reflect", "replicate", "circular"],
    groups=[1, 2],
    possible=torch_takes,
)
TRANSPOSE = transpose_cases(
    paddings=[(0, 0, 0), (1, 0, 1)], groups=[1, 2], output_paddings=[0, 1], possible=torch_takes
)


@pytest.mark.parametrize("case", CONV + TRANSPOSE, ids=name_of)
class TestConv(ConvContract):
    face = TorchFace()


class TestGolden(GoldenContract):
    face = TorchFace()


class TestRefusal(RefusalContract):
    def build(self, rank, filters, channels, groups, **arguments):
        return getattr(layers, f"SymmetricConv{rank}d")(channels, filters, 3, groups=groups, **arguments)


class TestRefusalOfTransposed(RefusalContract):
    def build(self, rank, filters, channels, groups, **arguments):
        return getattr(layers, f"SymmetricConvTranspose{rank}d")(channels, filters, 3, groups=groups, **arguments)
