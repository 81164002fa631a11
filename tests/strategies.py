"""Random symmetries and layers, for hypothesis."""

from cases import Case
from hypothesis import strategies as st

KINDS = {1: ["h"], 2: ["h", "v", "hv"], 3: ["h", "v", "z", "hv", "hz", "vz", "hvz"]}


@st.composite
def banks(draw, rank, groups=1, containing=""):
    """`(symmetry as counts, filters)` in which every kind contains the given letters."""
    kinds = [kind for kind in KINDS[rank] if set(containing) <= set(kind)]
    orbits = draw(st.dictionaries(st.sampled_from(kinds), st.integers(0, 2), max_size=3))
    symmetry = {kind: 2 ** len(kind) * number * groups for kind, number in orbits.items()}
    free = draw(st.integers(0 if sum(symmetry.values()) else 1, 3))
    return symmetry, sum(symmetry.values()) + free * groups


@st.composite
def cases(draw, transposed=False):
    """Any convolution that PyTorch takes."""
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    symmetry, filters = draw(banks(rank, groups))
    letters = "".join(sorted({letter for kind, count in symmetry.items() if count for letter in kind}))
    in_symmetry, channels = draw(banks(rank, groups, containing=letters)) if draw(st.booleans()) else (None, 0)
    channels = channels or groups * draw(st.integers(1, 2))

    def sizes(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * rank))

    padding = sizes(0, 2)
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])) if not transposed else "zeros"
    bias = draw(st.sampled_from(["shared", "each", None]))
    stride = sizes(1, 3)
    output_padding = draw(st.integers(0, 1)) if transposed else 0
    return Case(
        rank, transposed, symmetry, in_symmetry, filters, channels, sizes(1, 4), stride, padding, mode, sizes(1, 2),
        groups, bias, output_padding,
    )  # fmt: skip
