"""Which layers are tried: cases in which every pair of arguments occurs somewhere. Runs on Python 3.7."""

import itertools
from collections import namedtuple

# symmetry and in_symmetry are written as counts here, so that the oracle needs no rounding of its own
Case = namedtuple(
    "Case",
    "rank transposed symmetry in_symmetry filters channels kernel stride padding mode dilation groups bias "
    "output_padding",
)

_BANKS = {  # per rank: filters, channels, symmetries, in_symmetry with some channels free, kernels
    1: (12, 6, ({"h": 4}, {"h": 12}, None), {"h": 4}, ((3,), (4,))),
    2: (24, 12, ({"h": 4, "v": 4, "hv": 8}, {"hv": 24}, {"v": 12}, None), {"hv": 8}, ((3, 3), (2, 5))),
    3: (32, 20, ({"h": 4, "vz": 8, "hz": 8}, {"hvz": 32}, {"z": 8, "hv": 16}), {"hvz": 16}, ((3, 3, 3), (1, 2, 3))),
}


def pairwise(options, possible):
    """Few combinations of the options in which every possible pair of values occurs; always the same ones."""
    everything = [combination for combination in itertools.product(*options) if possible(*combination)]

    def pairs(combination):
        return set(itertools.combinations(enumerate(map(repr, combination)), 2))

    missing = set().union(*map(pairs, everything))
    chosen = []
    while missing:
        best = max(everything, key=lambda combination: len(missing & pairs(combination)))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def conv_cases(paddings, modes, groups, possible, ranks=(1, 2, 3)):
    """Cases for convolutions, every pair of argument values somewhere.

    Args:
        paddings: values of the host's padding; a tuple of ints is cut to the rank.
        modes: the host's padding modes.
        groups: the numbers of groups.
        possible: says of a `Case` whether the host takes it.
    """
    return [case for rank in ranks for case in _cases(rank, False, paddings, modes, groups, [0], possible)]


def transpose_cases(paddings, groups, output_paddings, possible, ranks=(1, 2, 3)):
    """Cases for transposed convolutions, every pair of argument values somewhere."""
    return [
        case for rank in ranks for case in _cases(rank, True, paddings, ["zeros"], groups, output_paddings, possible)
    ]


def _cases(rank, transposed, paddings, modes, groups, output_paddings, possible):
    filters, channels, symmetries, in_symmetry, kernels = _BANKS[rank]
    strides = [(1,) * rank, (2, 1, 2)[-rank:], (2,) * rank]
    dilations = [(1,) * rank, (1, 2, 2)[-rank:]]
    biases = ["shared", "each", None]

    def case(symmetry, inputs, kernel, stride, padding, mode, dilation, group, bias, output_padding):
        if isinstance(padding, tuple):
            padding = padding[-rank:]
        return Case(
            rank, transposed, symmetry, inputs, filters, channels, kernel, stride, padding, mode, dilation, group,
            bias, output_padding,
        )  # fmt: skip

    options = [symmetries, (None, in_symmetry), kernels, strides, paddings, modes, dilations, groups, biases]
    options.append(output_paddings)
    return [case(*values) for values in pairwise(options, lambda *values: possible(case(*values)))]


def name_of(case):
    """A short name for pytest."""
    return "-".join(str(value) for value in case).replace(" ", "").replace("'", "")


def covering(cases):
    """A few of the cases in which every value of every argument still occurs in every rank: for slow compilers."""

    def values(case):
        return {(case.rank, case.transposed, field, str(value)) for field, value in case._asdict().items()}

    chosen, missing = [], set().union(*map(values, cases))
    while missing:
        chosen.append(max(cases, key=lambda case: len(missing & values(case))))
        missing -= values(chosen[-1])
    return chosen
