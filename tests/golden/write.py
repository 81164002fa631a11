"""Writes the golden files: `python tests/golden/write.py`. Run it only to add something; old numbers are a promise.

`rank1.npz`, `rank2.npz`, `rank3.npz` hold inputs, stored weights and outputs of a convolution and a transposed one,
computed by the oracle, which every face has to give. `plans.json` pins the order of the filters.
"""

import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import oracle  # noqa: E402
from contract import GOLDEN  # noqa: E402

PLANS = [
    [{}, 4, 2, 1],
    [{"h": 2, "v": 4, "hv": 8}, 16, 2, 1],
    [{"h": 2, "v": 2, "z": 2, "hz": 4}, 16, 3, 1],
    [{"h": 2, "v": 2, "z": 2, "hv": 4, "hz": 4, "vz": 4, "hvz": 8}, 28, 3, 1],
    [{"hvz": 16}, 16, 3, 1],
    [{"h": 6}, 7, 1, 1],
    [{"h": 4, "hv": 8}, 16, 2, 2],
    [{"v": 8}, 16, 2, 4],
]


def golden_plans():
    """The arrangements of `PLANS`, each filter as its stored filter and its letters."""
    for symmetry, filters, ndim, groups in PLANS:
        who = oracle.arrangement(symmetry, filters, groups)
        yield {
            "symmetry": symmetry,
            "filters": filters,
            "ndim": ndim,
            "groups": groups,
            "representative": [stored for stored, _ in who],
            "mirror": [letters for _, letters in who],
        }


def golden_numbers(case, random):
    """Input, stored weight and bias, output; float32, so that the files stay small."""
    stored = len({index for index, _ in oracle.arrangement(case.symmetry, case.filters)})
    x = random.standard_normal((2, case.channels) + (6, 5, 7)[-case.rank :]).astype("float32")
    weight = random.standard_normal((stored, case.channels) + case.kernel).astype("float32")
    bias = random.standard_normal(stored).astype("float32")
    full = oracle.expand(weight.astype("float64"), case.symmetry, case.filters, 1, case.in_symmetry)
    biases = oracle.expand_bias(bias.astype("float64"), case.symmetry, case.filters)
    if case.transposed:
        sizes = zip(x.shape[2:], case.stride, case.kernel)
        out = [(n - 1) * s + k for n, s, k in sizes]
        y = oracle.conv_transpose(x, full, biases, case.stride, [0] * case.rank, out, case.dilation)
    else:
        y = oracle.conv(x, full, biases, case.stride, [(0, 0)] * case.rank, case.dilation)
    return {"x": x, "weight": weight, "bias": bias, "y": y.astype("float32")}


def main():
    """Writes all files."""
    lines = ",\n ".join(json.dumps(plan) for plan in golden_plans())
    (HERE / "plans.json").write_text("[" + lines + "]\n")
    for rank in (1, 2, 3):
        arrays = {}
        for name, case in GOLDEN.items():
            if case.rank == rank:
                numbers = golden_numbers(case, np.random.RandomState(rank))
                arrays.update({name + "_" + key: value for key, value in numbers.items()})
        np.savez_compressed(HERE / f"rank{rank}.npz", **arrays)


if __name__ == "__main__":
    main()
