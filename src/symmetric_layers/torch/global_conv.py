"""A convolution as wide as its input that cannot tell one neighbour from another."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.errors import whole_number
from symmetric_layers.torch.leaves import is_part, noted


class GlobalConv1d(nn.Module):
    """A 1-D convolution that is indifferent to the order of its features.

    One weight looks at the feature itself, one at all the others: for features that have no order, or one that should
    not matter. The cost grows with the number of features, not with its square.

    y_i = centre @ x_i + surround @ (sum of x_j over all j other than i) + bias

    Equivalent to: an `nn.Conv1d` with `kernel_size=2 * L - 1` and `padding=L - 1` whose middle tap is `centre` and
    whose every other tap is `surround`.

    Law: permuting the features permutes the output likewise.

    Args:
        in_channels: the channels of one feature.
        out_channels: the channels of one answer.
        bias: whether a bias is added.
        device, dtype: as in the host.

    Attributes:
        centre, surround: `(out_channels, in_channels)`, drawn like the weight of `nn.Linear`.
        bias: `(out_channels,)` or None.

    Shape:
        `(N, in_channels, L)` to `(N, out_channels, L)`; `mask` is `(N, L)`, true (or not 0) for features that are
        there. Features that are not there are left out of the sums, and their own answer is 0. One set without N is
        taken, too.

    Raises:
        SymmetryError: for channels that are no whole numbers above 0.

    Example:
        >>> layer = GlobalConv1d(3, 8)
        >>> x, order = torch.randn(2, 3, 100), torch.randperm(100)
        >>> torch.allclose(layer(x)[..., order], layer(x[..., order]), atol=1e-4)
        True

    Source: Zaheer et al., "Deep sets", NeurIPS 2017 (lemma 3: every linear map that permutes with its input).
    """

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_channels = whole_number("in_channels", in_channels, 1)
        self.out_channels = whole_number("out_channels", out_channels, 1)
        shape = (self.out_channels, self.in_channels)
        self.centre = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.surround = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights and the bias as `nn.Linear` does."""
        nn.init.kaiming_uniform_(self.centre, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.surround, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_channels)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves `(N, in_channels, L)`; features where `mask` `(N, L)` is false are left out."""
        if isinstance(input, Proxy) and is_part(self, input):
            return noted(self, input, [mask])
        there = None if mask is None else mask.to(torch.bool).unsqueeze(-2)
        if there is not None:
            input = input.masked_fill(~there, 0)
        own = F.conv1d(input, (self.centre - self.surround).unsqueeze(-1), self.bias)
        answer = own + F.linear(input.sum(-1), self.surround).unsqueeze(-1)
        return answer if there is None else answer.masked_fill(~there, 0)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, {self.out_channels}, bias={self.bias is not None}"
