"""The host's multi-head attention, whose features are orbits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.start import Start
from symmetric_layers.torch.convert.banks import linear
from symmetric_layers.torch.convert.parts import SymmetricLinear
from symmetric_layers.torch.convert.surgery import Numbers, hand_on_hooks, inherit
from symmetric_layers.torch.kernels import spread

_EXTRA = ("bias_k", "bias_v")


class OrbitMultiheadAttention(nn.MultiheadAttention):
    """Multi-head attention between positions, whose features are orbits; every head holds whole ones.

    Equivalent to: an `nn.MultiheadAttention` with `full_in_proj_weight()` and the full weight of `out_proj`.

    Law: exchanging the features of queries, keys and values with their mirrors exchanges those of the answers; the
    weights of the attention stay what they are.

    Args:
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, batch_first, device, dtype: as in the host.
        symmetry: how the features are arranged.

    Attributes:
        in_proj_weight: the stored rows of queries, keys and values, `(3 * plan.stored, embed_dim)`; `in_proj_bias`: one
            number for each. `out_proj`: a `SymmetricLinear`.
    """

    def __init__(self, embed_dim: int, num_heads: int, *arguments: Any, symmetry: Any, **more: Any) -> None:
        super().__init__(embed_dim, num_heads, *arguments, **more)
        given: Any = {"device": self.in_proj_weight.device, "dtype": self.in_proj_weight.dtype}
        self.plan: Plan = plan(symmetry, embed_dim, len(LETTERS), 1, symmetry, embed_dim)
        biased = self.in_proj_bias is not None
        self.out_proj: Any = SymmetricLinear(
            embed_dim, embed_dim, biased, symmetry=symmetry, in_symmetry=symmetry, **given
        )
        stored = 3 * self.plan.stored
        self.in_proj_weight = nn.Parameter(self.in_proj_weight.detach()[:stored].clone())
        if biased:
            self.in_proj_bias = nn.Parameter(self.in_proj_bias.detach()[:stored].clone())
        for name in _EXTRA:
            if getattr(self, name) is not None:
                setattr(self, name, nn.Parameter(getattr(self, name).detach()[..., : self.plan.stored].clone()))
        self._qkv_same_embed_dim = False  # blocks of the host then call this layer, and do not read its weights

    def full_in_proj_weight(self) -> Tensor:
        """One row for every feature of queries, keys and values: what the host's layer would hold."""
        return torch.cat([self.out_proj.expanded(part) for part in self.in_proj_weight.chunk(3)])

    def _spread(self, stored: Tensor | None) -> Tensor | None:
        return None if stored is None else spread(stored, self.plan)

    def full_in_proj_bias(self) -> Tensor | None:
        """One number for each."""
        if self.in_proj_bias is None:
            return None
        return spread(self.in_proj_bias.unflatten(0, (3, -1)), self.plan).flatten()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What the host's layer answers, which explains the arguments."""
        turned = self.batch_first and query.dim() == 3
        query, key, value = (one.transpose(0, 1) if turned else one for one in (query, key, value))
        answer, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.full_in_proj_weight(), self.full_in_proj_bias(),
            self._spread(self.bias_k), self._spread(self.bias_v), self.add_zero_attn, self.dropout,
            self.out_proj.full_weight(), self.out_proj.full_bias(), training=self.training,
            key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return (answer.transpose(0, 1) if turned else answer), weights


def orbit_attention(old: Any, symmetry: dict[str, int], numbers: Numbers, start: Start) -> nn.Module:
    """Such a layer for the host's."""
    features, biased = start.wide(old.embed_dim), old.in_proj_bias is not None
    new: Any = OrbitMultiheadAttention(
        features, old.num_heads, old.dropout, biased, old.bias_k is not None, old.add_zero_attn,
        batch_first=old.batch_first, device=old.in_proj_weight.device, dtype=old.in_proj_weight.dtype,
        symmetry=symmetry,
    )  # fmt: skip
    biases = old.in_proj_bias.chunk(3) if biased else [None] * 3
    thirds = zip(old.in_proj_weight.chunk(3), biases, strict=True)
    parts: list[Any] = [linear(_as_linear(*third), symmetry, symmetry, Numbers(), start) for third in thirds]
    numbers.put(new, "in_proj_weight", old.in_proj_weight, torch.cat([part.weight for part in parts]))
    if biased:
        numbers.put(new, "in_proj_bias", old.in_proj_bias, torch.cat([part.bias for part in parts]))
    new.out_proj = linear(old.out_proj, symmetry, symmetry, numbers, start)
    chosen = start.chosen(old.embed_dim)
    for name in _EXTRA:
        values = getattr(old, name)
        if values is not None:
            numbers.put(new, name, values, values.detach()[..., chosen])
    inherit(old, new)
    return new


def ordinary_attention(layer: OrbitMultiheadAttention, numbers: Numbers) -> nn.Module:
    """The way back."""
    made: Any = layer
    biased = layer.in_proj_bias is not None
    new: Any = nn.MultiheadAttention(
        layer.embed_dim, layer.num_heads, layer.dropout, biased, layer.bias_k is not None, layer.add_zero_attn,
        batch_first=layer.batch_first, device=layer.in_proj_weight.device, dtype=layer.in_proj_weight.dtype,
    )  # fmt: skip
    with torch.no_grad():
        numbers.put(new, "in_proj_weight", layer.in_proj_weight, layer.full_in_proj_weight())
        numbers.put(new, "in_proj_bias", layer.in_proj_bias, layer.full_in_proj_bias())
        numbers.put(new.out_proj, "weight", made.out_proj.weight, made.out_proj.full_weight())
        numbers.put(new.out_proj, "bias", made.out_proj.bias, made.out_proj.full_bias())
        for name in _EXTRA:
            numbers.put(new, name, getattr(layer, name), layer._spread(getattr(layer, name)))
    return hand_on_hooks(layer, new)


def _as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made: Any = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, "meta", weight.dtype)
    made.weight = nn.Parameter(weight.detach())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach())
    return made
