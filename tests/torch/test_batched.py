"""Mirrors of the picture instead of mirrors of the filters: the same answers, the same gradients."""

import pytest
import torch

import symmetric_layers.torch as layers
from symmetric_layers import plan
from symmetric_layers.torch.kernels import batched

CASES = [
    (1, {"h": 12}, None, {}),
    (2, {"h": 12}, {"hv": 8}, {}),
    (2, {"hv": 12}, None, {"padding_mode": "circular"}),
    (2, {"hv": 8}, {"hv": 8}, {"groups": 2}),
    (2, {"v": 12}, None, {"dilation": 2}),
    (2, {"hv": 12}, {"hv": 8}, {"bias": False}),
    (2, {"hv": 12}, None, {"stride": 2}),
    (2, {"hv": 12}, {"hv": 8}, {"stride": 2, "grid": "mirrored"}),
    (3, {"hvz": 16}, {"hvz": 8}, {}),
    (2, {"h": 2, "v": 4, "hv": 4, "": 3}, None, {}),
    (2, {"h": 2, "v": 4, "hv": 4, "": 3}, {"hv": 8}, {"stride": 2, "grid": "mirrored"}),
]


def run(monkeypatch, worth, case, positions):
    """Answer and gradients of a layer, with or without mirrored pictures, and whether they were mirrored."""
    rank, symmetry, in_symmetry, more = case
    used = []
    original = batched.on_mirrored_pictures
    where = "symmetric_layers.torch.kernels.reference."
    monkeypatch.setattr(where + "worth_it", lambda *_: worth)
    monkeypatch.setattr(where + "on_mirrored_pictures", lambda *given: used.append(1) or original(*given))
    torch.manual_seed(0)
    layer = getattr(layers, f"SymmetricConv{rank}d")(
        8,
        sum(symmetry.values()),
        3,
        padding=1,
        symmetry={kind: count for kind, count in symmetry.items() if kind},
        in_symmetry=in_symmetry,
        dtype=torch.float64,
        **more,
    )
    x = torch.randn(2, 8, *positions, dtype=torch.float64, requires_grad=True)
    answer = layer(x)
    (answer * torch.randn_like(answer)).sum().backward()
    return [answer.detach(), x.grad, *(p.grad for p in layer.parameters())], bool(used)


@pytest.mark.parametrize("larger", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_answers_and_gradients_are_the_references(monkeypatch, case, larger, tolerance):
    positions = [n + larger for n in (6, 7, 8)[: case[0]]]
    expected, written = run(monkeypatch, False, case, positions)
    found, mirrored = run(monkeypatch, True, case, positions)
    assert not written
    fits = all((n - 1) % case[3].get("stride", 1) == 0 for n in positions)
    assert mirrored == (fits or case[3].get("grid") == "mirrored")
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 10 * tolerance["float64"]


def test_it_is_chosen_where_weights_outweigh_pictures():
    bank = plan({"h": 512}, 512, 2)
    weight = torch.empty(256, 512, 3, 3, device="meta")
    assert batched.worth_it(torch.empty(8, 512, 7, 7, device="meta"), weight, bank, (1, 1))
    assert not batched.worth_it(torch.empty(32, 512, 28, 28, device="meta"), weight, bank, (1, 1))
    assert not batched.worth_it(torch.empty(512, 7, 7, device="meta"), weight, bank, (1, 1))
    grouped = plan({"h": 256}, 512, 2, groups=2)
    assert not batched.worth_it(torch.empty(8, 512, 7, 7, device="meta"), weight, grouped, (1, 1))
