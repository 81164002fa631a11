"""The law is measured with convolutions that are sums of matrix products: they are the host's, to rounding."""

import pytest
import torch
from torch.nn import functional as F

from symmetric_layers.torch.convert import products
from symmetric_layers.torch.convert.products import Products

CASES = [
    (F.conv2d, (2, 3, 7, 9), (4, 3, 3, 2), {"padding": (1, 2), "dilation": (2, 1)}),
    (F.conv2d, (1, 1, 5, 5), (2, 1, 5, 5), {}),
    (F.conv3d, (2, 4, 5, 6, 7), (3, 4, 3, 1, 2), {"padding": 1}),
    (F.conv3d, (1, 2, 40, 11, 12), (3, 2, 3, 3, 3), {"padding": [1, 0, 2], "dilation": [1, 2, 1]}),
    (F.conv2d, (2, 3, 8, 9), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    (F.conv2d, (2, 3, 7, 11), (4, 3, 2, 5), {"stride": (3, 2), "dilation": (3, 1)}),
    (F.conv3d, (1, 2, 9, 8, 7), (3, 2, 3, 3, 1), {"stride": [2, 1, 2], "padding": 1}),
]


@pytest.mark.parametrize(("conv", "shape", "filters", "more"), CASES)
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_is_the_hosts(conv, shape, filters, more, bias, tolerance, monkeypatch):
    asked = []
    own = products.by_products
    monkeypatch.setattr(products, "by_products", lambda *given: asked.append(1) or own(*given))
    generator = torch.Generator().manual_seed(0)
    x, weight, level = (torch.randn(s, generator=generator, dtype=torch.float64) for s in (shape, filters, filters[:1]))
    expected = conv(x, weight, level if bias else None, **more)
    with torch.no_grad(), Products():
        answer = conv(x, weight, bias=level if bias else None, **more)
    assert asked == [1]
    assert answer.shape == expected.shape
    assert answer.is_contiguous()
    assert (answer - expected).abs().max() <= tolerance["float64"] * expected.abs().max()


def test_what_is_no_sum_of_products_is_left_to_the_host(monkeypatch):
    monkeypatch.setattr(products, "by_products", None)
    x, weight = torch.randn(1, 4, 8, 8, dtype=torch.float64), torch.randn(4, 4, 3, 3, dtype=torch.float64)
    cases = [
        (x, weight[:, :2], {"groups": 2}),
        (x, weight, {"padding": "same"}),
        (x.float(), weight.float(), {}),
        (x[0], weight, {}),
    ]
    with torch.no_grad():
        for given, filters, more in cases:
            expected = F.conv2d(given, filters, **more)
            with Products():
                assert torch.equal(F.conv2d(given, filters, **more), expected)
    with Products():
        assert F.conv2d(x, weight.requires_grad_()).requires_grad
