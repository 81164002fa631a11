"""Small networks written by hand, with what such networks have: skips, gates, scales, shared activations."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers.torch import equivariant


class ResNet(nn.Module):
    """Additions, strides, squeeze and excitation, a scale for each channel."""

    def __init__(self, channels=8):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)
        self.first = nn.Conv2d(channels, 2 * channels, 3, 2, 1)
        self.between = nn.GroupNorm(2, 2 * channels)
        self.second = nn.Conv2d(2 * channels, 2 * channels, 3, 1, 1)
        self.skip = nn.Conv2d(channels, 2 * channels, 1, 2)
        self.squeeze = nn.Linear(2 * channels, channels)
        self.excite = nn.Linear(channels, 2 * channels)
        self.scale = nn.Parameter(torch.ones(2 * channels, 1, 1))
        self.head = nn.Linear(2 * channels, 5)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        y = self.scale * self.second(F.relu(self.between(self.first(x))))
        y += self.skip(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3))))))
        return self.head(F.adaptive_avg_pool2d(y * gate[:, :, None, None], 1).flatten(1))


class UNet(nn.Module):
    """A skip by concatenation, through a gate of one map for all channels."""

    def __init__(self, channels=8):
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, 2)
        self.gate = nn.Conv2d(channels, 1, 1)
        self.join = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.out = nn.Conv2d(channels, 2, 1)

    def forward(self, x):
        skip = F.relu(self.first(x))
        up = self.up(F.relu(self.second(self.pool(skip))))
        skip = skip * torch.sigmoid(self.gate(up))
        return self.out(F.relu(self.join(torch.cat([skip, up], 1))))


class BlockNet(nn.Sequential):
    """One after the other, in 1-D: strides, groups, resizing, pools, a head of two layers."""

    def __init__(self):
        super().__init__(
            nn.Conv1d(4, 8, 5, 3),
            nn.ELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(8, 8, 3, groups=4, padding=2),
            nn.Upsample(scale_factor=1.5),
            nn.ConstantPad1d((1, 0), 0.5),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            nn.BatchNorm1d(8),
            nn.Linear(8, 4),
            nn.ReLU(),
            nn.Linear(4, 2),
        )


class Converted(NamedTuple):
    """A network that was converted, the same numbers every time, and the shape of its input."""

    name: str
    build: type
    shape: tuple

    def network(self, seed=3, **where):
        """The converted network; statistics, scales and biases are no longer what they started as."""
        torch.manual_seed(seed)
        model = equivariant(self.build(), "hv", example=torch.randn(1, *self.shape[1:]), measure=False)
        with torch.no_grad():
            for value in model.state_dict().values():
                if value.is_floating_point() and value.dim() == 1:
                    value.uniform_(0.5, 1.5)
        return model.to(**where).eval()

    def input(self, batch=None, dtype=torch.float32):
        """Random pictures."""
        shape = (batch or self.shape[0], *self.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64).to(dtype)


RESIDUAL = Converted("residual", ResNet, (4, 3, 8, 9))
CONVERTED = [RESIDUAL, Converted("skips", UNet, (4, 1, 8, 12))]
