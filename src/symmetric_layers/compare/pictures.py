"""Pictures for the report: test pictures and maps as PNG, filters as SVG."""

import base64
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.image import imsave
from torch import Tensor, nn

from symmetric_layers import Plan, plan
from symmetric_layers.compare.data import IGNORE
from symmetric_layers.torch import SymmetricConv2d, SymmetricConv3d

COLOURS = ("#56b4e9", "#e69f00", "#f7f3d6")  # told apart without colour vision, too: by lightness
CHANGED = "#d50032"
BACKGROUND = "#16191d"
_CELL, _GAP, _PAD, _WIDTH = 9, 5, 5, 350


def colours(count: int) -> tuple[str, ...]:
    """One colour for each class."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    return tuple(to_hex(colormaps["turbo"](0.05 + 0.9 * place / (count - 1))) for place in range(count))


def plane(values: Tensor) -> Tensor:
    """The middle plane of a volume; what is flat stays as it is."""
    return values[len(values) // 2] if values.dim() > 2 else values


def grey(picture: Tensor, alt: str) -> str:
    """A picture `(C, *positions)` in shades of grey, or in colours if it has three channels, as an `<img>`."""
    flat = torch.stack([plane(channel) for channel in picture])
    flat = flat if len(flat) == 3 else flat[:1].expand(3, -1, -1)
    low, high = np.quantile(flat.numpy(), [0.005, 0.995])
    return _image(((flat - low) / max(high - low, 1e-6)).clamp(0, 1).movedim(0, -1).numpy(), alt)


def classes(found: Tensor, region: Tensor, count: int, alt: str) -> str:
    """A map of classes inside its region, as an `<img>`."""
    palette = np.stack([_rgb(colour) for colour in (*colours(count), BACKGROUND)])
    return _image(palette[plane(torch.where(region, found, count)).clamp(min=0).numpy()], alt)


def marks(changed: Tensor, region: Tensor, alt: str) -> str:
    """Which pixels of the region changed, as an `<img>`."""
    palette = np.stack([_rgb(colour) for colour in (BACKGROUND, "#6b737c", CHANGED)])
    return _image(palette[plane(torch.where(region, 1 + (changed & region).long(), 0)).numpy()], alt)


def is_known(truth: Tensor) -> Tensor:
    """The pixels that have a class."""
    return truth != IGNORE


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])


def _image(pixels: np.ndarray, alt: str) -> str:
    buffer = BytesIO()
    times = max(1, round(250 / max(pixels.shape[:2])))  # small ones are drawn larger, pixel by pixel
    imsave(buffer, np.repeat(np.repeat(pixels, times, 0), times, 1), format="png")
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{code}" alt="{escape(alt)}">'


def orbits(layer: nn.Module, alt: str) -> str:
    """The filters of a first layer as an SVG: the members of an orbit in one frame, free filters without one."""
    weight, bank = _bank(layer)
    weight = weight.detach()[:, 0] / weight.detach().abs().max()
    filters = [plane(one).tolist() for one in weight]
    groups = [orbit.members for orbit in bank.orbits] + [(index,) for index in bank.free]
    side = _CELL * max(len(filters[0]), len(filters[0][0]))
    parts, x, y, height = [], 1, 1, side + 2 * _PAD
    for members in groups:
        width = len(members) * (side + _GAP) - _GAP + 2 * _PAD
        if x > 1 and x + width > _WIDTH:
            x, y = 1, y + height + 6
        if len(members) > 1:
            parts.append(f'<rect class="frame" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        for place, member in enumerate(members):
            parts.append(_filter(filters[member], x + _PAD + place * (side + _GAP), y + _PAD))
        x += width + 6
    whole = f'viewBox="0 0 {_WIDTH + 2} {y + height + 1}" role="img" aria-label="{escape(alt)}"'
    return f"<svg {whole}>{''.join(parts)}</svg>"


def _bank(layer: Any) -> tuple[Tensor, Plan]:
    """All filters of a layer, and which are mirrors of which."""
    if isinstance(layer, SymmetricConv2d | SymmetricConv3d):
        return layer.full_weight(), layer.plan or plan(None, layer.out_channels, layer.weight.dim() - 2)
    return layer.weight, plan(None, layer.out_channels, layer.weight.dim() - 2)


def _filter(rows: list[list[float]], x: int, y: int) -> str:
    size = f'width="{_CELL}" height="{_CELL}"'
    edge = f'<rect class="edge" x="{x}" y="{y}" width="{_CELL * len(rows[0])}" height="{_CELL * len(rows)}"/>'
    return edge + "".join(
        f'<rect x="{x + _CELL * column}" y="{y + _CELL * row}" {size} fill="{_diverging(value)}"/>'
        for row, values in enumerate(rows)
        for column, value in enumerate(values)
    )


def _diverging(value: float) -> str:
    """Blue for negative, white for 0, red for positive."""
    end = (178, 24, 43) if value > 0 else (33, 102, 172)
    return "#" + "".join(f"{round(247 + (channel - 247) * abs(value)):02x}" for channel in end)
