"""Super-resolution of photographs with PyTorch: a network as everybody writes it, and the same made to mirror.

    python examples/super_resolution.py

Trains both on crops of photographs that come with scikit-image, prints how good they are on others, and draws the
answers to a mirrored picture.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from skimage import data
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from symmetric_layers.torch import equivariance_error, equivariant

TRAINING, TESTING = ("astronaut", "coffee", "rocket"), ("chelsea", "hubble_deep_field")


class SuperResolution(nn.Module):
    """Twice as many pixels along each axis: what a resized picture lacks."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 5, padding=2)
        self.body = nn.Sequential(*[Residual(channels) for _ in range(3)])
        self.up = nn.Sequential(nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From `(N, 3, H, W)` to `(N, 3, 2 H, 2 W)`, from 0 to 1."""
        resized = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        return resized + self.last(self.up(self.body(self.first(x))))


class Residual(nn.Module):
    """Two convolutions, and what they read."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """As many channels of the same size."""
        return x + self.second(F.relu(self.first(x)))


def crops(names: tuple[str, ...], count: int, size: int, seed: int) -> Tensor:
    """Random crops of photographs, `(count, 3, size, size)`, from 0 to 1."""
    random, found = np.random.default_rng(seed), []
    photographs = [getattr(data, name)() for name in names]
    for _ in range(count):
        photograph = photographs[random.integers(len(photographs))]
        top, left = (random.integers(side - size) for side in photograph.shape[:2])
        found.append(photograph[top : top + size, left : left + size])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255


def train(model: nn.Module, steps: int, name: str) -> nn.Module:
    """Trains on crops and their half as large copies."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    large = crops(TRAINING, 256, 48, seed=0)
    for step in trange(steps, desc=name):
        batch = large[torch.arange(16) + 16 * step % 256]
        loss = F.l1_loss(model(F.avg_pool2d(batch, 2)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def decibels(model: nn.Module, large: Tensor) -> float:
    """The peak signal-to-noise ratio."""
    return float(-10 * torch.log10(F.mse_loss(model(F.avg_pool2d(large, 2)).clamp(0, 1), large)))


@torch.no_grad()
def draw(models: dict[str, nn.Module], picture: Tensor, out: str) -> None:
    """Draws how far the answer to the mirrored picture is from the mirrored answer."""
    figure, axes = plt.subplots(1, 1 + len(models), figsize=(4 + 4 * len(models), 4), layout="constrained")
    axes[0].imshow(picture[0].permute(1, 2, 0))
    axes[0].set_title("picture")
    for axis, (name, model) in zip(axes[1:], models.items(), strict=True):
        apart = (model(picture.flip(-1)).flip(-1) - model(picture)).abs().mean(1)[0]
        image = axis.imshow(apart, vmin=0, vmax=0.02)
        axis.set_title(f"{name}: what a mirror changes")
    figure.colorbar(image, ax=axes)
    for axis in axes:
        axis.axis("off")
    figure.savefig(out)
    plt.close(figure)


def main(steps: int = 300, out: str = "super_resolution.png") -> None:
    """Trains, compares and draws."""
    torch.manual_seed(0)
    plain = SuperResolution()
    twin = equivariant(plain, "hv", example=torch.rand(1, 3, 24, 24))
    models = {name: train(model, steps, name) for name, model in (("plain", plain), ("twin", twin))}
    large = crops(TESTING, 32, 96, seed=1)
    print("network   weights    PSNR   what a mirror changes")
    for name, model in models.items():
        weights = sum(parameter.numel() for parameter in model.parameters())
        worst = max(row.relative for row in equivariance_error(model, F.avg_pool2d(large[:4], 2), "hv"))
        print(f"{name:8s} {weights:8d} {decibels(model, large):7.2f}   {worst:.0e} of the largest value")
    draw(models, F.avg_pool2d(large[:1], 2), out)
    print(f"Drawn: {out}")


if __name__ == "__main__":
    typer.run(main)
