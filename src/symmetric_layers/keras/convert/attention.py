"""The host's multi-head attention, whose features are orbits."""

from typing import Any

import keras

from symmetric_layers.errors import SymmetryError
from symmetric_layers.keras.arranged import Symmetry
from symmetric_layers.keras.channels import plain, refuse_quantized
from symmetric_layers.keras.convert.config import config_of
from symmetric_layers.keras.convert.einsum import OrbitEinsumDense
from symmetric_layers.keras.convert.made import Made, made_of
from symmetric_layers.letters import orbit_size
from symmetric_layers.start import Start

ARRANGED = ("query_symmetry", "key_symmetry", "value_symmetry", "head_symmetry", "symmetry")


@keras.saving.register_keras_serializable(package="symmetric_layers")
class OrbitMultiHeadAttention(keras.layers.MultiHeadAttention):
    """`MultiHeadAttention` between positions, whose features are orbits; every head holds whole ones.

    Pictures may ask a text, and texts pictures: each of query, key and value is arranged by itself.

    Equivalent to: a `MultiHeadAttention` whose projections have the full kernels of `query_dense`, `key_dense`,
    `value_dense` and `output_dense`.

    Law: exchanging the features of those that are orbits with their mirrors exchanges the features of the answers with
    theirs; the weights of the attention stay what they are.

    Args:
        query_symmetry, key_symmetry, value_symmetry: how the features of each are arranged; None: ordinary numbers.
        head_symmetry: how the features in each head are arranged.
        symmetry: how the features of the answer are arranged; None: ordinary numbers.
        others: as in the host.
    """

    def __init__(
        self,
        *arguments: Any,
        query_symmetry: Symmetry,
        key_symmetry: Symmetry,
        value_symmetry: Symmetry,
        head_symmetry: Symmetry,
        symmetry: Symmetry,
        **others: Any,
    ) -> None:
        given = (query_symmetry, key_symmetry, value_symmetry, head_symmetry, symmetry)
        asked = {name: plain(name, value) for name, value in zip(ARRANGED, given, strict=True)}
        super().__init__(*arguments, **others)
        refuse_quantized(self)
        self._asked = asked

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Makes the projections, as the host does."""
        asked, heads = self._asked, self.num_heads

        def project(name: str, shape: Any, size: int, **more: Any) -> OrbitEinsumDense:
            return self._projection(
                name, shape, "...c,cnd->...nd", (heads, size), "cd", asked[f"{name}_symmetry"], "head_symmetry", **more
            )

        self._query_dense = project("query", query_shape, self.key_dim)
        self._key_dense = project("key", key_shape or value_shape, self.key_dim)
        self._value_dense = project("value", value_shape, self.value_dim)
        if getattr(self, "_use_gate", False):
            self._gate_dense = project("query", query_shape, self.value_dim, activation="sigmoid")
        self._build_attention(len(value_shape) + 1)
        (units,) = self._output_shape or (query_shape[-1],)
        answered = (*query_shape[:-1], heads, self.value_dim)
        self._output_dense = self._projection(
            "attention_output", answered, "...nd,ndc->...c", (units,), "dc", asked["head_symmetry"], "symmetry"
        )
        self.built = True

    def _projection(
        self,
        name: str,
        shape: Any,
        equation: str,
        units: Any,
        letters: str,
        inputs: Any,
        outputs: str,
        activation: str | None = None,
    ) -> OrbitEinsumDense:
        new = OrbitEinsumDense(
            equation,
            units,
            activation=activation,
            bias_axes=equation.split("...")[-1] if self.use_bias else None,
            letters=letters,
            in_symmetry=inputs,
            symmetry=self._asked[outputs],
            name="gate" if activation else name,
            **self._get_common_kwargs_for_sublayer(),
        )
        new.build(tuple(shape))
        return new

    def get_config(self) -> dict[str, Any]:
        """The host's config, and what was asked for beyond it."""
        return {**super().get_config(), **{name: value and dict(value) for name, value in self._asked.items()}}


def parts_of(layer: Any) -> list[Any]:
    """The projections of an attention."""
    gate = [layer._gate_dense] if getattr(layer, "_use_gate", False) else []
    return [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense, *gate]


def units_of(layer: Any) -> tuple[int, ...]:
    """The shape of the features that an attention answers."""
    return tuple(layer.output_dense.kernel.shape[2:])


def attention(name: str, old: Any, kind: str, orbits: dict[str, bool], start: Start) -> Made:
    """Such a layer for the host's; `orbits` says which of query, key, value and answer are orbits."""
    asked: dict[str, Any] = {}
    seen = any(orbits[role] for role in ("query", "key", "value"))
    if seen:
        sizes = {"key_dim": old.key_dim, "value_dim": old.value_dim}
        asked = {role: _whole(name, size, kind, start) for role, size in sizes.items()}
    units = units_of(old)
    if orbits["answer"]:
        units = tuple(start.whole(name, units[0], kind).values())
    asked["output_shape"] = units
    arranged = [orbits["query"], orbits["key"], orbits["value"], seen, orbits["answer"]]
    asked.update({one: {kind: "100%"} if here else None for one, here in zip(ARRANGED, arranged, strict=True)})
    new = made_of(OrbitMultiHeadAttention, {**config_of(old), **asked})

    def fill() -> None:
        for part, other in zip(parts_of(new), parts_of(old), strict=True):
            part.take(other, start)

    return new, fill


def _whole(name: str, size: int, kind: str, start: Start) -> int:
    wide = size * start.width
    if wide.denominator != 1 or wide % orbit_size(kind):
        raise SymmetryError(
            f"model: {name!r} has heads of {wide} features, which are no whole orbits of {kind!r}. Expected a multiple "
            f"of {orbit_size(kind)} in key_dim and value_dim. Use such numbers (with fewer heads), or keep that part "
            "ordinary with keep."
        )
    return int(wide)


def ordinary_attention(layer: OrbitMultiHeadAttention) -> Made:
    """The way back."""
    config = {key: value for key, value in config_of(layer).items() if key not in ARRANGED}
    new = made_of(keras.layers.MultiHeadAttention, config)

    def fill() -> None:
        for part, other in zip(parts_of(new), parts_of(layer), strict=True):
            part.kernel.assign(other.full_kernel())
            if part.bias is not None:
                part.bias.assign(other.full_bias())

    return new, fill
