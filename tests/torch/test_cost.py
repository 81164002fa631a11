"""What is foreseen of the fused kernel, as a share of the reference's time, where vectors hold 16 numbers."""

import pytest

from symmetric_layers import plan
from symmetric_layers.torch.kernels import cost


def foreseen(kind, inputs, filters, kernel, size, batch=1, stride=1, deep=False, last=True):
    rank = len(kernel)
    bank = plan({kind: filters}, filters, rank, 1, {kind: inputs} if deep else None, inputs)
    pixels, plane = batch * (size // stride) ** rank, (size // stride) ** min(rank, 2)
    return cost.ratio(bank, inputs, kernel, last, 16, pixels, plane, stride**rank)


def test_layers_of_one_tap_that_are_moved_rather_than_computed_are_left_to_the_host():
    assert foreseen("hv", 256, 16, (1, 1), 56, batch=16, deep=True) > 1
    assert foreseen("hv", 256, 16, (1, 1), 56, batch=16, deep=True, last=False) < 0.9
    assert foreseen("hv", 256, 256, (1, 1), 56, batch=16, deep=True) < 0.9


def test_strides_past_contiguous_pixels_cost_next_to_nothing():
    assert foreseen("hv", 64, 8, (3, 3), 224, batch=4, stride=2, last=False) < 0.9


@pytest.mark.parametrize("stride", [1, 2])
def test_rows_that_do_not_fill_a_vector_leave_it_to_orbits(stride):
    kernel = (3, 3, 3)
    assert foreseen("hvz", 256, 8, kernel, 3 * stride, 8, stride, deep=True, last=False) > 1
    assert foreseen("hvz", 256, 8, kernel, 24 * stride, 8, stride, deep=True, last=False) < 0.9


def test_lines_fill_vectors_whatever_their_stride():
    assert foreseen("h", 512, 8, (9,), 48, 64, stride=2) < foreseen("h", 512, 8, (9,), 24, 64, stride=2)
