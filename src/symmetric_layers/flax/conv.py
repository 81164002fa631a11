"""Convolutions whose filters come in mirror-image orbits: drop-in subclasses of those of `flax.nnx`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flax import nnx
from jax import Array

from symmetric_layers.errors import one_of, yes_or_no
from symmetric_layers.flax.bank import expand_kernel, stored_kernel
from symmetric_layers.flax.channels import spread
from symmetric_layers.flax.grid import in_the_mirror, lopsided, lopsided_transposed
from symmetric_layers.flax.initial import KERNEL, ZEROS, Initializer, representatives
from symmetric_layers.flax.written import Values, Written
from symmetric_layers.letters import LETTERS
from symmetric_layers.orbits import Plan, plan

Sizes = int | Iterable[int]
_Symmetry = Mapping[str, int | str] | None


class _Symmetric(nnx.Module):
    """What all symmetric convolutions share: what is stored, how it starts, and what is derived from it."""

    kernel: nnx.Param
    bias: Any
    in_features: int
    use_bias: bool
    mask: Any
    plan: Plan
    share_bias: bool
    grid: str
    dtype: Any
    promote_dtype: Any

    def _remember(self, bank: Plan, share_bias: bool, grid: str) -> None:
        self.plan, self.share_bias, self.grid = bank, share_bias, grid
        if bank.orbits:
            self.kernel_shape = self.kernel.shape
            if self.mask is not None:
                stored_kernel(self)  # refuses one that does not fit

    def full_kernel(self) -> Array:
        """All filters, mirrors written out (and masked): what the host's layer would hold as its `kernel`."""
        return expand_kernel(stored_kernel(self), self.plan, self._turned())

    def full_bias(self) -> Array | None:
        """One bias per filter, None where the layer has none: what the host's layer would hold as its `bias`."""
        if self.bias is None:
            return None
        return spread(self.bias[...], self.plan) if self.share_bias else self.bias[...]

    def _answer(self, host: Callable[[Any, Array], Array], x: Array) -> Array:
        """What the host's call answers, with the whole bank in the place of what is stored."""
        # other channels than these the host refuses in its own words
        crooked = self._crooked(x) if self.grid == "mirrored" and x.shape[-1] == self.in_features else ""
        crooked = "".join(letter for letter in crooked if any(letter in kind for kind in self.plan.kinds))
        bias = self.full_bias() if self.use_bias else None
        if not crooked:
            seen: dict[str, Any] = {"kernel": Values(self.full_kernel()), "mask": None}
            return host(Written(self, bias=None if bias is None else Values(bias), **seen), x)

        def run(seen: Array, kernel: Array, groups: int) -> Array:
            instead: dict[str, Any] = {"kernel": Values(kernel), "bias": None, "use_bias": False, "mask": None}
            shapes = {"in_features": seen.shape[-1], "feature_group_count": groups}
            return host(Written(self, **instead, **shapes), seen)

        kernel = stored_kernel(self)
        answer = in_the_mirror(run, x, kernel, self.plan, self._turned(), crooked)
        *_, bias = self.promote_dtype((x, kernel, bias), dtype=self.dtype)
        return answer if bias is None else answer + bias

    def _crooked(self, x: Array) -> str:
        """The letters along which the host's grid is not its own mirror image."""
        raise NotImplementedError

    def _turned(self) -> bool:
        """Whether the filters stand on the kernel's last axis but one."""
        return bool(getattr(self, "transpose_kernel", False))


class SymmetricConv(_Symmetric, nnx.Conv):
    """`nnx.Conv` whose filters come in mirror-image orbits: one filter is stored, its mirrors are derived.

    What looks alike from the left and from the right needs one filter, not two to be learnt apart. Half, a quarter
    or (in 3-D) an eighth of the weights are left, and the answer mirrors when the picture does.

    Equivalent to: an `nnx.Conv` whose `kernel` is `jnp.stack([w, jnp.flip(w, 1)], -1).reshape(*w.shape[:-1], -1)` for
    `'h'` orbits, and likewise `w, flip(w, 1), flip(w, 0), flip(w, (0, 1))` for `'hv'`.

    Law: for every orbit whose kind contains a letter, mirroring the input along that letter mirrors the output and
    exchanges each channel with its mirror (`plan.exchange(letter)`). It holds where biases are shared, the padding
    is the same on both sides, and along each mirrored axis `(n + 2p - d(k-1) - 1) mod s` is 0, for size n, padding
    p, dilation d, kernel k and stride s. `padding='SAME'` adds `max((ceil(n/s) - 1)s + d(k-1) + 1 - n, 0)` in all,
    and the odd one after: that breaks the law for even (undilated) kernels at stride 1, and for odd kernels at stride 2
    on an even size (224, say; 225 obeys). With `in_symmetry` the input's channels are exchanged together
    with the mirroring. With `grid='mirrored'` it holds at every size.

    Args:
        symmetry: how many *filters* belong to each kind, as numbers or percentages: `{'h': 2, 'v': '50%', 'hv': 8}`.
            `'h'` mirrors the width, `'v'` the height, in 3-D `'z'` the depth. The rest are ordinary filters. Kinds
            stand in the order h, v, z, hv, hz, vz, hvz, the members of an orbit side by side. None: an ordinary layer.
        share_bias: one bias per orbit (True, what the law needs) or one per filter.
        in_symmetry: how the input channels are arranged: the `symmetry` of the layer before. Mirrors then also
            exchange their input channels. None where the input is an ordinary picture.
        grid: `'shared'`: always one ordinary convolution with `full_kernel()`. `'mirrored'`: mirrors sample the
            mirrored grid, and the law holds at every size and padding; where the geometry fits both are the same.
        others: as in the host. With `feature_group_count` every group holds its own bank. Initializers draw the full
            bank, of which the representatives are kept. A `mask` has the shape of the stored `kernel`.

    Attributes:
        kernel: the stored filters, `(*kernel_size, in_features / groups, plan.stored)`.
        bias: `(plan.stored,)` where shared, else `(out_features,)`, or None.
        plan: which filters are mirrors of which (`print(layer.plan)` draws it).

    Shape:
        `(*batch, height, width, in_features)` to what the host gives, in 1-D `(*batch, width, in_features)`, in 3-D
        `(*batch, depth, height, width, in_features)`; the kernel's size says which.

    Raises:
        SymmetryError: for a symmetry or a mask that does not fit; one sentence says what would.

    Example:
        >>> layer = SymmetricConv(1, 16, (3, 3), symmetry={'h': 2, 'v': 4, 'hv': 8}, rngs=nnx.Rngs(0))
        >>> x = jax.random.normal(jax.random.key(0), (5, 28, 28, 1))
        >>> layer(x).shape, layer.kernel.shape, layer.full_kernel().shape
        ((5, 28, 28, 16), (3, 3, 1, 7), (3, 3, 1, 16))
        >>> left, mirrored = layer(x)[..., 0], layer(jnp.flip(x, 2))[..., 1]
        >>> bool(jnp.allclose(mirrored, jnp.flip(left, 2), atol=1e-5))
        True

    Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016, for the groups of mirrors.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sizes,
        strides: int | Sequence[int] | None = 1,
        *,
        feature_group_count: int = 1,
        kernel_init: Initializer = KERNEL,
        bias_init: Initializer = ZEROS,
        symmetry: _Symmetry = None,
        share_bias: bool = True,
        in_symmetry: _Symmetry = None,
        grid: str = "shared",
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        size = sizes_of(kernel_size)
        bank = plan(
            symmetry, out_features, _rank(size, symmetry, in_symmetry), feature_group_count, in_symmetry, in_features
        )
        share_bias, grid = yes_or_no("share_bias", share_bias), one_of("grid", grid, ("shared", "mirrored"))
        super().__init__(
            in_features,
            out_features,
            size,
            strides,
            feature_group_count=feature_group_count,
            kernel_init=representatives(kernel_init, bank, -1),
            bias_init=representatives(bias_init, bank, -1) if share_bias else bias_init,
            rngs=rngs,
            **others,
        )
        self._remember(bank, share_bias, grid)

    def __call__(self, inputs: Array, *arguments: Any, **others: Any) -> Array:
        """Convolves `(*batch, *positions, in_features)` as the host's layer does."""
        if not self.plan.orbits:
            return super().__call__(inputs, *arguments, **others)
        return self._answer(lambda layer, x: nnx.Conv.__call__(layer, x, *arguments, **others), inputs)

    def _crooked(self, x: Array) -> str:
        return lopsided(self, x.shape[-1 - len(self.kernel_size) : -1])


class SymmetricConvTranspose(_Symmetric, nnx.ConvTranspose):
    """`nnx.ConvTranspose` whose filters come in mirror-image orbits, in the order of `SymmetricConv`.

    Decoders then keep the orbits of the encoder. The arguments `symmetry`, `share_bias` and `in_symmetry`, the
    attributes and the errors are those of `SymmetricConv`.

    Equivalent to: an `nnx.ConvTranspose` whose `kernel`, along its last axis, holds each stored filter and its mirrors;
    along its last axis but one with `transpose_kernel=True`.

    Law: as for `SymmetricConv`, where as much is cut off (or added) on the left as on the right: `padding='VALID'` with
    strides no larger than the (dilated) kernel, `'SAME'` where the stride is no larger, too, and both are odd or both
    even, and the same number of pixels of padding on both sides. With `grid='mirrored'` it holds always.

    Shape:
        `(*batch, *positions, in_features)` to what the host gives. The stored `kernel` is
        `(*kernel_size, in_features, plan.stored)`, with `transpose_kernel=True` `(*kernel_size, plan.stored,
        in_features)`.

    Example:
        >>> h, rngs = {'h': 16}, nnx.Rngs(0)
        >>> layer = SymmetricConvTranspose(16, 8, (2, 2), 2, symmetry={'h': 8}, in_symmetry=h, rngs=rngs)
        >>> layer(jnp.ones((1, 14, 14, 16))).shape, layer.kernel.shape
        ((1, 28, 28, 8), (2, 2, 16, 4))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sizes,
        strides: int | Sequence[int] | None = None,
        *,
        transpose_kernel: bool = False,
        kernel_init: Initializer = KERNEL,
        bias_init: Initializer = ZEROS,
        symmetry: _Symmetry = None,
        share_bias: bool = True,
        in_symmetry: _Symmetry = None,
        grid: str = "shared",
        rngs: nnx.Rngs,
        **others: Any,
    ) -> None:
        size = sizes_of(kernel_size)
        bank = plan(symmetry, out_features, _rank(size, symmetry, in_symmetry), 1, in_symmetry, in_features)
        share_bias, grid = yes_or_no("share_bias", share_bias), one_of("grid", grid, ("shared", "mirrored"))
        super().__init__(
            in_features,
            out_features,
            size,
            strides,
            transpose_kernel=transpose_kernel,
            kernel_init=representatives(kernel_init, bank, -2 if transpose_kernel else -1),
            bias_init=representatives(bias_init, bank, -1) if share_bias else bias_init,
            rngs=rngs,
            **others,
        )
        self._remember(bank, share_bias, grid)

    def __call__(self, inputs: Array) -> Array:
        """Spreads `(*batch, *positions, in_features)` out as the host's layer does."""
        if not self.plan.orbits:
            return super().__call__(inputs)
        return self._answer(nnx.ConvTranspose.__call__, inputs)

    def _crooked(self, x: Array) -> str:
        return lopsided_transposed(self)


def sizes_of(kernel_size: Sizes) -> tuple[int, ...]:
    """The size of a kernel along every axis; a number is that of the only one, as in the host."""
    return (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)


def _rank(size: tuple[int, ...], symmetry: _Symmetry, in_symmetry: _Symmetry) -> int:
    """How many axes a plan has to know; without a symmetry the host may have any number."""
    return len(size) if symmetry or in_symmetry else min(max(len(size), 1), len(LETTERS))
