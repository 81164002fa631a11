"""Draws `docs/orbit.png`: one stored filter and its mirrors. Run as `python docs/draw_orbit.py`."""

import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from symmetric_layers.torch import SymmetricConv2d

NAMES = ("stored", "mirrored along h", "mirrored along v", "mirrored along h and v")


def main() -> None:
    """Writes the picture beside this file."""
    layer = SymmetricConv2d(1, 4, 5, symmetry={"hv": 4})
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5), indexing="ij")
    with torch.no_grad():
        layer.weight[0, 0] = torch.sin(2.2 * columns + 1.1 * rows + 0.6) - 0.5 * rows
    figure, panels = plt.subplots(1, 4, figsize=(8, 2.3), dpi=160)
    for panel, name, kernel in zip(panels, NAMES, layer.full_weight().detach()[:, 0], strict=True):
        panel.imshow(kernel, cmap="PuOr", vmin=-1.5, vmax=1.5)
        panel.set_title(name, fontsize=9, fontweight="bold" if name == "stored" else "normal")
        panel.set_xticks([])
        panel.set_yticks([])
    figure.tight_layout()
    figure.savefig(pathlib.Path(__file__).with_name("orbit.png"))


if __name__ == "__main__":
    main()
