"""Linear layers that read whole maps, as the first networks of every course end: filters as large as the map."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from symmetric_layers.torch import desymmetrize, equivariant, where_it_breaks


class Digits(nn.Module):
    """The network that everybody writes first."""

    def __init__(self, height=7, width=6):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout(0.2)
        self.count = 16 * (height // 2) * (width // 2)
        self.fc1, self.fc2 = nn.Linear(self.count, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = F.relu(self.conv2(x)).view(-1, self.count)
        return self.fc2(F.relu(self.fc1(self.dropout(x))))


def vgg(rank, size):
    conv, pool = getattr(nn, f"Conv{rank}d"), getattr(nn, f"AdaptiveAvgPool{rank}d")
    features = [conv(1, 8, 3, 1, 1), nn.ELU(), conv(8, 8, 3, 2, 1), nn.ELU(), pool(size)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(8 * size**rank, 16), nn.ELU(), nn.Linear(16, 3))


NETWORKS = {
    "digits": (Digits(), "h", (1, 7, 6)),
    "digits, both axes": (Digits(), "hv", (1, 7, 6)),
    "one layer": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 9 * 8, 4)), "hv", (3, 11, 10)),
    "1-D": (vgg(1, 5), "h", (1, 12)),
    "2-D": (vgg(2, 3), "hv", (1, 9, 12)),
    "3-D": (vgg(3, 2), "hvz", (1, 5, 6, 8)),
    "pictures alone": (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Flatten(), nn.Linear(9 * 8, 4)), "hv",
        (1, 11, 10),
    ),
}  # fmt: skip


def random_in_double(model):
    generator = torch.Generator().manual_seed(3)
    for parameter in model.double().eval().parameters():
        parameter.data = (
            torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / parameter[0].numel() ** 0.5
        )
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_a_head_on_whole_maps_does_not_see_a_mirror(name):
    model, axes, shape = NETWORKS[name]
    twin = random_in_double(equivariant(model, axes, example=torch.randn(1, *shape)))
    x = torch.randn(3, *shape, dtype=torch.float64)
    for letter in axes:
        mirrored = x.flip({"h": -1, "v": -2, "z": -3}[letter])
        torch.testing.assert_close(twin(mirrored), twin(x), rtol=0, atol=1e-12)
    assert not torch.allclose(twin(x.roll(1, -1)), twin(x), atol=1e-3)  # but it sees everything else
    plain = desymmetrize(twin, x)
    assert not [module for module in plain.modules() if type(module).__module__.startswith("symmetric_layers")]
    torch.testing.assert_close(plain(x), twin(x), rtol=0, atol=1e-12)


def test_maps_in_a_line_are_no_offenders():
    twin = random_in_double(equivariant(Digits(), "hv", example=torch.randn(1, 1, 7, 6)))
    x = torch.randn(2, 1, 7, 6, dtype=torch.float64)
    assert where_it_breaks(twin, x, "hv").offender is None
    twin.fc2.register_forward_pre_hook(lambda module, args: args[0] + torch.arange(12, dtype=torch.float64))
    assert where_it_breaks(twin, x, "hv").offender.module in ("fc2", "")


def test_half_of_the_weights_are_left_under_the_names_they_had():
    model = Digits()
    twin = equivariant(model, "h", example=torch.randn(1, 1, 7, 6))
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert twin.fc1.weight.shape == (6, 16, 3, 3)  # one entry for each orbit of features, for all channels and places
    assert torch.equal(twin.fc1.weight.flatten(1), model.fc1.weight[::2])
    assert torch.equal(twin.fc1.bias, model.fc1.bias[::2])


def test_it_is_saved_copied_trained_and_compiled():
    twin = equivariant(Digits(), "hv", example=torch.randn(1, 1, 7, 6)).eval()
    x = torch.randn(4, 1, 7, 6)
    twin(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    other = equivariant(Digits(), "hv", example=x).eval()
    other.load_state_dict(twin.state_dict())
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    for again in (other, copy.deepcopy(twin), torch.load(file, weights_only=False)):
        assert torch.equal(again(x), twin(x))
    torch.testing.assert_close(torch.compile(twin, backend="aot_eager", fullgraph=True)(x), twin(x))


@pytest.mark.parametrize("how", [{"width": 2}, {"width": "parameters"}, {"width": 2, "init": "average"}])
def test_it_is_made_wider_and_starts_as_the_average(how):
    model, x = vgg(2, 3), torch.randn(2, 1, 9, 9)
    twin = equivariant(model, "h", example=x, **how)
    if "init" not in how:
        return
    expected = (model(x) + model(x.flip(-1))) / 2
    torch.testing.assert_close(twin(x), expected, rtol=0, atol=1e-5)
