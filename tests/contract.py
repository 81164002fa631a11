"""The five promises that every face keeps: meaning, law, gradient, memory, refusal.

A face inherits `ConvContract` and `RefusalContract` and says in a `Face` how its framework builds, calls, saves and
differentiates a layer. Nothing of the core is imported here; the truth is `oracle.py`. Runs on Python 3.7.
"""

import itertools
import pathlib

import numpy as np
import oracle
import pytest
from cases import Case


def letters_of(symmetry):
    """The letters along which any filter is mirrored."""
    return sorted({letter for kind in symmetry or {} for letter in kind})


def law_error(call, symmetry, in_symmetry, x, groups=1):
    """The largest deviation from the law over all letters, where filters know them; depthwise layers are one group.

    Args:
        call: gives the answer to a picture, both as in PyTorch.
    """
    straight = call(x)
    kinds = oracle.kinds(symmetry, straight.shape[1], groups)
    worst = 0.0
    for letter in letters_of([kind for kind, count in symmetry.items() if count]):
        mirrored = call(oracle.act(x, letter, in_symmetry, groups))
        expected = oracle.act(straight, letter, symmetry, groups)
        obeying = [i for i, kind in enumerate(kinds) if letter in kind]
        worst = max(worst, np.abs(mirrored - expected)[:, obeying].max())
    return worst


class Face:
    """How a framework is spoken to; arrays go in and come out as in PyTorch, in float64."""

    def layer(self, case):
        """A fresh layer in float64."""
        raise NotImplementedError

    def stored(self, layer):
        """What is stored: `(weight as (stored, channels / groups, *kernel), bias or None)`."""
        raise NotImplementedError

    def store(self, layer, weight, bias):
        """Puts these numbers into the layer."""
        raise NotImplementedError

    def call(self, layer, x):
        """The answer."""
        raise NotImplementedError

    def gradients(self, layer, x, g):
        """The gradients of `sum(answer * g)`: `(of x, of the stored weight, of the stored bias or None)`."""
        raise NotImplementedError

    def reload(self, layer, case, folder):
        """Saves the layer to a file in the folder and loads it into a fresh layer."""
        raise NotImplementedError

    def geometry(self, case, positions):
        """The padding `[(before, after)]`; of a transposed layer what is cut off `[before]` and the sizes `[out]`."""
        raise NotImplementedError

    def lawful(self, case, positions):
        """Per axis, whether the host's geometry is mirror-symmetric for this size."""
        axes = list(zip(positions, case.kernel, case.stride, case.dilation))
        if case.transposed:
            crops, out = self.geometry(case, positions)
            return [s * (n - 1) + d * (k - 1) + 1 - c - o == c for (n, k, s, d), c, o in zip(axes, crops, out)]
        pads = self.geometry(case, positions)
        return [b == a and (n + b + a - d * (k - 1) - 1) % s == 0 for (n, k, s, d), (b, a) in zip(axes, pads)]


def answer(face, case, weight, bias, x):
    """What the oracle says the layer answers."""
    full = oracle.expand(weight, case.symmetry, case.filters, case.groups, case.in_symmetry)
    if case.bias == "shared":
        bias = oracle.expand_bias(bias, case.symmetry, case.filters, case.groups)
    if case.transposed:
        crops, out = face.geometry(case, x.shape[2:])
        return oracle.conv_transpose(x, full, bias, case.stride, crops, out, case.dilation, case.groups)
    pads = face.geometry(case, x.shape[2:])
    return oracle.conv(x, full, bias, case.stride, pads, case.dilation, case.groups, case.mode)


def weight_gradient(face, case, x, g):
    """What the oracle says arrives at the stored filters."""
    if case.transposed:
        crops, _ = face.geometry(case, x.shape[2:])
        full = oracle.conv_transpose_weight_gradient(x, g, case.kernel, case.stride, crops, case.dilation, case.groups)
    else:
        pads = face.geometry(case, x.shape[2:])
        full = oracle.conv_weight_gradient(x, g, case.kernel, case.stride, pads, case.dilation, case.groups, case.mode)
    return oracle.collect(full, case.symmetry, case.filters, case.groups, case.in_symmetry)


class ConvContract:
    """Inherit, set `face`, and parametrise `case` over the cases that the host takes."""

    face = None

    def make(self, case):
        random = np.random.RandomState(0)
        layer = self.face.layer(case)
        weight, bias = self.face.stored(layer)
        weight = random.standard_normal(weight.shape)
        bias = None if bias is None else random.standard_normal(bias.shape)
        self.face.store(layer, weight, bias)
        return layer, weight, bias, random

    def picture(self, case, random, positions=None):
        positions = positions or (7, 8, 9)[-case.rank :]
        return random.standard_normal((2, case.channels) + tuple(positions))

    def lawful_positions(self, case):
        """Sizes for which the law holds along as many axes as it can."""
        sizes = itertools.product(*[(n, n + 1) for n in (7, 8, 9)[-case.rank :]])
        return max(sizes, key=lambda positions: sum(self.face.lawful(case, positions)))

    def test_meaning_the_answer_is_the_oracles(self, case, tolerance):
        layer, weight, bias, random = self.make(case)
        x = self.picture(case, random)
        np.testing.assert_allclose(
            self.face.call(layer, x), answer(self.face, case, weight, bias, x), rtol=0, atol=tolerance["float64"]
        )

    def test_law_a_mirrored_picture_gives_the_mirrored_answer(self, case, tolerance):
        positions = self.lawful_positions(case)
        lawful = self.face.lawful(case, positions)
        letters = letters_of(case.symmetry)
        if case.bias == "each":
            letters = []  # a bias of its own gives every mirror away
        layer, _, _, random = self.make(case)
        x = self.picture(case, random, positions)
        straight = self.face.call(layer, x)
        kinds = oracle.kinds(case.symmetry, case.filters, case.groups)
        for letter in letters:
            mirrored = self.face.call(layer, oracle.act(x, letter, case.in_symmetry, case.groups))
            expected = oracle.act(straight, letter, case.symmetry, case.groups)
            obeying = [i for i, kind in enumerate(kinds) if letter in kind]
            error = np.abs(mirrored - expected)[:, obeying].max()
            if lawful[oracle.AXIS[letter]]:
                assert error <= tolerance["float64"]
            else:
                assert error > 1e-3, "the geometry is lopsided, the law cannot hold"
            free = [i for i, kind in enumerate(kinds) if not kind]
            if free and (case.in_symmetry or case.kernel[oracle.AXIS[letter]] > 1):
                assert np.abs(mirrored - expected)[:, free].max() > 1e-3, "free filters cannot obey"

    def test_gradient_the_representative_collects_from_its_mirrors(self, case, tolerance):
        layer, weight, bias, random = self.make(case)
        x = self.picture(case, random)
        g = random.standard_normal(self.face.call(layer, x).shape)
        of_x, of_weight, of_bias = self.face.gradients(layer, x, g)
        atol = 10 * tolerance["float64"]  # sums over some thousand products
        np.testing.assert_allclose(of_weight, weight_gradient(self.face, case, x, g), rtol=0, atol=atol)
        direction = random.standard_normal(x.shape)
        without_bias = None if bias is None else np.zeros_like(bias)
        moved = answer(self.face, case, weight, without_bias, direction)
        np.testing.assert_allclose((of_x * direction).sum(), (g * moved).sum(), rtol=0, atol=10 * atol)
        if bias is not None:
            per_filter = g.sum(axis=(0,) + tuple(range(2, g.ndim)))
            if case.bias == "shared":
                per_filter = oracle.collect_bias(per_filter, case.symmetry, case.filters, case.groups)
            np.testing.assert_allclose(of_bias, per_filter, rtol=0, atol=atol)

    def test_memory_a_saved_layer_answers_the_same(self, case, tmp_path):
        layer, _, _, random = self.make(case)
        x = self.picture(case, random)
        again = self.face.reload(layer, case, tmp_path)
        np.testing.assert_array_equal(self.face.call(again, x), self.face.call(layer, x))


def _golden(rank, transposed):
    symmetry = {1: {"h": 4}, 2: {"h": 2, "v": 2, "hv": 4}, 3: {"h": 2, "hvz": 8}}[rank]
    in_symmetry = {1: {"h": 4}, 2: {"hv": 4}, 3: {"hvz": 8}}[rank] if transposed else None
    filters, channels = {1: 6, 2: 10, 3: 12}[rank], {1: 4, 2: 4, 3: 8}[rank] if transposed else 2
    one = (1,) * rank
    kernel, stride = (2, 3, 3)[-rank:], (1, 2, 2)[-rank:]
    return Case(
        rank, transposed, symmetry, in_symmetry, filters, channels, kernel, stride, "valid", "zeros", one, 1,
        "shared", 0,
    )  # fmt: skip


GOLDEN = {
    "{}{}".format("transpose" if transposed else "conv", rank): _golden(rank, transposed)
    for rank in (1, 2, 3)
    for transposed in (False, True)
}


class GoldenContract:
    """Inherit and set `face`: the numbers in `tests/golden` are the same in every framework, now and later."""

    face = None

    def takes(self, case):
        """Whether the host has such a layer."""
        return True

    @pytest.mark.parametrize("name", sorted(GOLDEN))
    def test_golden_numbers_are_the_same_in_every_framework(self, name, tolerance):
        case = GOLDEN[name]
        if not self.takes(case):
            return
        golden = np.load(str(pathlib.Path(__file__).parent / "golden" / f"rank{case.rank}.npz"))
        x, weight, bias, y = (golden[f"{name}_{key}"] for key in ("x", "weight", "bias", "y"))
        layer = self.face.layer(case)
        self.face.store(layer, weight.astype("float64"), bias.astype("float64"))
        answer = self.face.call(layer, x.astype("float64"))
        np.testing.assert_allclose(answer, y, rtol=1e-6, atol=tolerance["float32"])


# what is asked for (16 filters in 2-D, 8 input channels, one group, unless it says otherwise) and the refusal
REFUSALS = [
    (
        {"symmetry": {"hv": 6}},
        "symmetry: 'hv': 6 does not fit 16 filters. Expected a multiple of 4 (the size of one 'hv' orbit), at most 16. "
        "Use such a number, or a percentage, which rounds down to whole orbits.",
    ),
    (
        {"symmetry": {"h": 18}},
        "symmetry: 'h': 18 does not fit 16 filters. Expected a multiple of 2 (the size of one 'h' orbit), at most 16. "
        "Use such a number, or a percentage, which rounds down to whole orbits.",
    ),
    (
        {"symmetry": {"x": 2}},
        "symmetry: 'x' is no kind of mirror in 2-D. Expected different letters out of 'h', 'v'. "
        "Use 'h' or 'v' or 'hv'.",
    ),
    (
        {"symmetry": {"z": 2}},
        "symmetry: 'z' is no kind of mirror in 2-D. Expected different letters out of 'h', 'v'. "
        "Use 'h' or 'v' or 'hv'.",
    ),
    (
        {"symmetry": {"v": 2}, "rank": 1},
        "symmetry: 'v' is no kind of mirror in 1-D. Expected different letters out of 'h'. Use 'h'.",
    ),
    (
        {"symmetry": {"hh": 2}},
        "symmetry: 'hh' is no kind of mirror in 2-D. Expected different letters out of 'h', 'v'. "
        "Use 'h' or 'v' or 'hv'.",
    ),
    (
        {"symmetry": {"": 2}},
        "symmetry: '' is no kind of mirror in 2-D. Expected different letters out of 'h', 'v'. Use 'h' or 'v' or 'hv'.",
    ),
    (
        {"symmetry": {1: 2}},
        "symmetry: 1 is no kind of mirror in 2-D. Expected different letters out of 'h', 'v'. Use 'h' or 'v' or 'hv'.",
    ),
    (
        {"symmetry": {"hv": 4, "vh": 4}},
        "symmetry: {'hv': 4, 'vh': 4} says the kind 'hv' twice. Expected each kind once. Add the numbers up.",
    ),
    (
        {"symmetry": {"h": -2}},
        "symmetry: 'h': -2 is neither a whole number of filters nor a percentage. Expected a multiple of 2 from 0 to "
        "16, or a string like '50%'. Use one of these.",
    ),
    (
        {"symmetry": {"h": 2.0}},
        "symmetry: 'h': 2.0 is neither a whole number of filters nor a percentage. Expected a multiple of 2 from 0 to "
        "16, or a string like '50%'. Use one of these.",
    ),
    (
        {"symmetry": {"h": True}},
        "symmetry: 'h': True is neither a whole number of filters nor a percentage. Expected a multiple of 2 from 0 to "
        "16, or a string like '50%'. Use one of these.",
    ),
    (
        {"symmetry": {"h": "abc%"}},
        "symmetry: 'h': 'abc%' is no percentage. Expected a number from 0 to 100 and a percent sign, like '50%' or "
        "'12.5 %'. Use such a string, or a whole number.",
    ),
    (
        {"symmetry": {"h": "-5%"}},
        "symmetry: 'h': '-5%' is no percentage. Expected a number from 0 to 100 and a percent sign, like '50%' or "
        "'12.5 %'. Use such a string, or a whole number.",
    ),
    (
        {"symmetry": {"h": 10, "v": 8}},
        "symmetry: {'h': 10, 'v': 8} asks for more than 16 filters. Expected at most 16 in all. "
        "Use smaller numbers, or more filters.",
    ),
    (
        {"symmetry": {"h": "60%", "v": "41%"}},
        "symmetry: {'h': '60%', 'v': '41%'} asks for more than 16 filters. Expected at most 16 in all. "
        "Use smaller numbers, or more filters.",
    ),
    (
        {"symmetry": ["h"]},
        "symmetry: ['h'] is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict.",
    ),
    (
        {"symmetry": "h"},
        "symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict.",
    ),
    (
        {"symmetry": {"h": 4}, "in_symmetry": {"h": 3}},
        "in_symmetry: 'h': 3 does not fit 8 input channels. Expected a multiple of 2 (the size of one 'h' orbit), "
        "at most 8. Use such a number, or a percentage, which rounds down to whole orbits.",
    ),
    (
        {"symmetry": {"h": 4}, "in_symmetry": "h"},
        "in_symmetry: 'h' is no mapping. Expected kinds and numbers, like {'h': 8, 'hv': '50%'}, or None. Use a dict.",
    ),
    (
        {"symmetry": {"hv": 8}, "in_symmetry": {"h": 4, "hv": 4}},
        "in_symmetry: 'h': 4 does not contain 'v', along which 'hv' filters are mirrored. Expected input orbits of "
        "kind 'hv' or 'hvz'. Use one of these in the layer before, or a smaller kind in symmetry.",
    ),
    (
        {"symmetry": {"h": 4}, "share_bias": 1},
        "share_bias: 1 is no bool. Expected True or False. Use one of these.",
    ),
    (
        {"symmetry": {"h": 6}, "groups": 4},
        "symmetry: 'h': 6 does not fit 16 filters in 4 groups. Expected a multiple of 8 (the size of one 'h' orbit "
        "times 4 groups), at most 16. Use such a number, or a percentage, which rounds down to whole orbits.",
    ),
    (
        {"symmetry": None, "groups": 16},
        "groups: 16 do not divide 8 input channels. Expected a divisor of 8. Use such a number.",
    ),
]


class RefusalContract:
    """Inherit, and say how the face builds a layer: `build(rank, filters, channels, groups, **arguments)`."""

    groups_too = True  # whether the host's layers have groups

    def build(self, rank, filters, channels, groups, **arguments):
        raise NotImplementedError

    @pytest.mark.parametrize(("asked", "sentence"), REFUSALS, ids=[str(asked) for asked, _ in REFUSALS])
    def test_refusal_is_one_whole_sentence(self, asked, sentence):
        asked = dict(asked)
        groups = asked.pop("groups", 1)
        if groups > 1 and not self.groups_too:
            return
        with pytest.raises(ValueError) as refusal:
            self.build(asked.pop("rank", 2), 16, 8, groups, **asked)
        assert str(refusal.value) == sentence
        assert type(refusal.value).__name__ == "SymmetryError"
