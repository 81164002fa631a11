"""What the documentation says of ordinary layers is what becomes of them."""

import pathlib
import re

import pytest
import torch
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import equivariant

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "equivariant.md"
ROWS = re.findall(r"^\| `(nn\..*?)` \| (itself|`\w+`) \| (.*?) ?\|$", PAGE.read_text(), re.MULTILINE)


def test_the_table_is_found():
    assert len(ROWS) == sum(line.startswith("| `nn.") for line in PAGE.read_text().splitlines()) > 20


@pytest.mark.parametrize(("code", "becomes", "why"), ROWS, ids=[code for code, _, _ in ROWS])
def test_a_layer_between_convolutions_becomes_what_the_table_says(code, becomes, why):
    layer = eval(code, {"nn": nn})
    model = nn.Sequential(nn.Conv2d(1, 8, 3), layer, nn.Conv2d(8, 2, 1))
    example = torch.randn(1, 1, 11, 11)
    if why.startswith("refused"):
        with pytest.raises(SymmetryError, match=r"^model: "):
            equivariant(model, "hv", example=example)
        return
    new = equivariant(model, "hv", example=example)
    assert type(new[1]).__name__ == (type(layer).__name__ if becomes == "itself" else becomes.strip("`"))
