"""The host's multi-head attention, whose features are orbits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan
from symmetric_layers.start import Start
from symmetric_layers.torch.convert.banks import linear
from symmetric_layers.torch.convert.parts import SymmetricLinear, rows
from symmetric_layers.torch.convert.surgery import Numbers, hand_on_hooks, inherit
from symmetric_layers.torch.kernels import spread
from symmetric_layers.torch.leaves import noted

_EXTRA = ("bias_k", "bias_v")
_SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


class OrbitMultiheadAttention(nn.MultiheadAttention):
    """Multi-head attention between positions, whose features are orbits; every head holds whole ones.

    Equivalent to: an `nn.MultiheadAttention` with `full_weights()` and the full weight of `out_proj`.

    Law: exchanging the features of queries, keys and values with their mirrors exchanges those of the answers; the
    weights of the attention stay what they are. Words know no mirror.

    Args:
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype: as in
            the host.
        symmetry: how the features are arranged.
        words: whether keys and values are plain features (of words, say).

    Attributes:
        in_proj_weight: the stored rows of queries, keys and values, `(3 * plan.stored, embed_dim)`, or for words of
            other sizes `q_proj_weight`, `k_proj_weight` and `v_proj_weight`; `in_proj_bias`: one number for each row.
            `out_proj`: a `SymmetricLinear`.
    """

    words = False  # of the class, so that layers stored before there was a choice have it too

    def __init__(
        self, embed_dim: int, num_heads: int, *arguments: Any, symmetry: Any, words: bool = False, **more: Any
    ) -> None:
        super().__init__(embed_dim, num_heads, *arguments, **more)
        given: Any = {"device": self.out_proj.weight.device, "dtype": self.out_proj.weight.dtype}
        self.words = words
        self.plan: Plan = plan(symmetry, embed_dim, len(LETTERS), 1, symmetry, embed_dim)
        biased = self.in_proj_bias is not None
        self.out_proj: Any = SymmetricLinear(
            embed_dim, embed_dim, biased, symmetry=symmetry, in_symmetry=symmetry, **given
        )
        for name in (*_SEPARATE, "in_proj_weight", "in_proj_bias"):
            made = getattr(self, name)
            if made is not None:
                stored = self.plan.stored if name in _SEPARATE else 3 * self.plan.stored
                setattr(self, name, nn.Parameter(made.detach()[:stored].clone()))
        for name in _EXTRA:
            if getattr(self, name) is not None:
                setattr(self, name, nn.Parameter(getattr(self, name).detach()[..., : self.plan.stored].clone()))
        self._qkv_same_embed_dim = False  # blocks of the host then call this layer, and do not read its weights

    def full_weights(self) -> dict[str, Tensor]:
        """One row for every feature of queries, keys and values: what the host's layer would hold, by name."""
        if self.in_proj_weight is not None:
            parts = [self._rows(place, part) for place, part in enumerate(self.in_proj_weight.chunk(3))]
            return {"in_proj_weight": torch.cat(parts)}
        return {name: self._rows(place, getattr(self, name)) for place, name in enumerate(_SEPARATE)}

    def _rows(self, place: int, stored: Tensor) -> Tensor:
        if not self.words or place == 0:
            return self.out_proj.expanded(stored)
        return rows(stored, _lifting(self.plan, stored.shape[1]))

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
    ) -> Any:
        """What the host's layer answers, which explains the arguments."""
        if isinstance(query, Proxy):
            more = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
            return noted(self, query, (key, value, *more))
        turned = self.batch_first and query.dim() == 3
        query, key, value = (one.transpose(0, 1) if turned else one for one in (query, key, value))
        full: Any = {"in_proj_weight": None, **self.full_weights()}
        answer, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, full.pop("in_proj_weight"), self.full_in_proj_bias(),
            self._spread(self.bias_k), self._spread(self.bias_v), self.add_zero_attn, self.dropout,
            self.out_proj.full_weight(), self.out_proj.full_bias(), training=self.training,
            use_separate_proj_weight=bool(full), **full,
            key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return (answer.transpose(0, 1) if turned else answer), weights


@torch.compiler.assume_constant_result
def _lifting(arranged: Plan, features: int) -> Plan:
    """The plan of what makes such orbits of plain features; compilers look it up."""
    return plan(arranged.counts, arranged.filters, arranged.ndim, 1, None, features)


def orbit_attention(
    old: Any, symmetry: dict[str, int], words: bool, numbers: Numbers, start: Start
) -> OrbitMultiheadAttention:
    """Such a layer for the host's."""
    biased = old.in_proj_bias is not None
    sizes = {"kdim": old.kdim, "vdim": old.vdim} if words else {}
    new: Any = OrbitMultiheadAttention(
        start.wide(old.embed_dim), old.num_heads, old.dropout, biased, old.bias_k is not None, old.add_zero_attn,
        batch_first=old.batch_first, device=old.out_proj.weight.device, dtype=old.out_proj.weight.dtype,
        symmetry=symmetry, words=words, **sizes,
    )  # fmt: skip
    packed = old.in_proj_weight is not None
    weights = old.in_proj_weight.chunk(3) if packed else [getattr(old, name) for name in _SEPARATE]
    biases = old.in_proj_bias.chunk(3) if biased else [None] * 3
    parts: list[Any] = [
        linear(_as_linear(*third), symmetry, None if words and place else symmetry, Numbers(), start)
        for place, third in enumerate(zip(weights, biases, strict=True))
    ]
    if new.in_proj_weight is not None:
        numbers.put(new, "in_proj_weight", old.in_proj_weight, torch.cat([part.weight for part in parts]))
    else:  # wider queries, say, of words that are as many as before
        for name, weight, part in zip(_SEPARATE, weights, parts, strict=True):
            numbers.put(new, name, weight, part.weight)
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
    sizes = {"kdim": made.kdim, "vdim": made.vdim} if layer.words else {}
    new: Any = nn.MultiheadAttention(
        layer.embed_dim, layer.num_heads, layer.dropout, layer.in_proj_bias is not None, layer.bias_k is not None,
        layer.add_zero_attn, batch_first=layer.batch_first, device=made.out_proj.weight.device,
        dtype=made.out_proj.weight.dtype, **sizes,
    )  # fmt: skip
    with torch.no_grad():
        for name, full in layer.full_weights().items():
            numbers.put(new, name, getattr(layer, name), full)
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
