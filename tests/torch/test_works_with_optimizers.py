"""Whatever an optimizer does to what is stored, filters stay mirror images."""

import pytest
import torch
from cases_torch import CONVOLUTIONS, NORM, Case, all_filters, host, name, written_out
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (Adam, {"foreach": True}),
        (AdamW, {"fused": True}),
        (RMSprop, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_filters_stay_mirrored_while_they_learn(case: Case, optimizer: type[Optimizer], options: dict) -> None:
    layer, x = case.layer(), case.input()
    step = optimizer(layer.parameters(), lr=0.01, **options)
    start, losses = all_filters(layer).detach(), []
    for _ in range(4):
        step.zero_grad()
        loss = (layer(x) - 1).square().mean()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    filters = all_filters(layer)
    assert not torch.isclose(filters, start).any()
    torch.testing.assert_close(filters, written_out(layer), rtol=0, atol=0)
    torch.testing.assert_close(layer(x), host(layer)(x))


def test_the_members_of_an_orbit_share_their_scale_while_they_learn() -> None:
    norm, x = NORM.layer(), NORM.input()
    step = SGD(norm.parameters(), lr=0.1)
    norm(x).pow(3).sum().backward()
    step.step()
    norm.eval()
    plan, ones = norm.plan, torch.ones_like(x)
    per_channel = norm(ones)[0, :, 0, 0]
    for orbit in plan.orbits:
        assert len(set(per_channel[list(orbit.members)].tolist())) == 1
