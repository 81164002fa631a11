"""Networks of other people, converted by one line: the law in double precision, at even and odd sizes."""

import time
import warnings

import pytest
import torch
from networks_torch import BlockNet, ResNet, UNet
from torch import nn

from symmetric_layers.torch import SymmetricConv2d, equivariant
from symmetric_layers.torch.convert import desymmetrize

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.networks import nets as monai
    from transformers import (
        ConvNextConfig,
        ConvNextForImageClassification,
        MobileNetV2Config,
        MobileNetV2ForImageClassification,
        ResNetConfig,
        ResNetForImageClassification,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small spend their time waiting for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def monai_unet(**more):
    return monai.UNet(2, 1, 3, (8, 16, 32), (2, 2), **more)


def dynunet(rank, **more):
    return monai.DynUNet(
        rank, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], deep_supervision=True, deep_supr_num=1, **more
    )


NETWORKS = {
    "residual": (lambda: ResNet(), "hv", [(3, 9, 12), (3, 8, 9), (3, 12, 16)]),
    "residual, h": (lambda: ResNet(), "h", [(3, 9, 12), (3, 8, 9)]),
    "blocks in 1-D": (lambda: BlockNet(), "h", [(4, n) for n in range(29, 37)]),
    "U-Net": (lambda: UNet(), "hv", [(1, 16, 12), (1, 8, 4)]),
    "MONAI UNet": (lambda: monai_unet(), "hv", [(1, 16, 24), (1, 8, 4)]),
    "MONAI UNet, residual": (lambda: monai_unet(num_res_units=2, norm="batch", dropout=0.2), "hv", [(1, 16, 24)]),
    "MONAI UNet, 3-D": (lambda: monai.UNet(3, 1, 2, (8, 16), (2,), num_res_units=1), "hvz", [(1, 8, 4, 6)]),
    "BasicUNet": (
        lambda: monai.BasicUNet(2, 1, 2, features=(8, 8, 16, 16, 16, 8)), "hv", [(1, 37, 34), (1, 32, 36), (1, 33, 32)],
    ),
    "BasicUNet, nontrainable": (
        lambda: monai.BasicUNet(2, 1, 2, features=(8, 8, 16, 16, 16, 8), upsample="nontrainable"), "v",
        [(1, 37, 34), (1, 32, 36)],
    ),
    "BasicUNet, 3-D": (
        lambda: monai.BasicUNet(3, 1, 2, features=(8, 8, 8, 8, 16, 8)), "hz", [(1, 33, 32, 18), (1, 32, 17, 32)],
    ),
    "DynUNet": (lambda: dynunet(2), "hv", [(1, 16, 24), (1, 8, 12)]),
    "DynUNet, 3-D": (lambda: dynunet(3, res_block=True, trans_bias=True), "hvz", [(1, 8, 12, 16)]),
    "SegResNet": (
        lambda: monai.SegResNet(2, 8, 1, 2, dropout_prob=0.1, blocks_down=(1, 1, 1), blocks_up=(1, 1)), "hv",
        [(1, 16, 24), (1, 20, 12)],
    ),
    "SegResNet, 3-D": (
        lambda: monai.SegResNet(3, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)), "hvz", [(1, 8, 6, 4)],
    ),
    "DenseNet121": (lambda: monai.DenseNet121(2, 1, 3), "hv", [(1, 64, 64), (1, 65, 70)]),
    "ResNet": (
        lambda: ResNetForImageClassification(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 32], depths=[1, 2, 1], layer_type="basic")
        ), "hv", [(3, 64, 64), (3, 224, 224), (3, 65, 70)],
    ),
    "ResNet, bottleneck": (
        lambda: ResNetForImageClassification(ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 2])),
        "h", [(3, 64, 64), (3, 65, 70)],
    ),
    "ConvNeXt": (
        lambda: ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 2, 1])), "hv",
        [(3, 64, 64), (3, 65, 70)],
    ),
    "MobileNetV2": (
        lambda: MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.35)), "hv",
        [(3, 64, 64), (3, 65, 70)],
    ),
}  # fmt: skip


def randomise(model):
    """Random numbers for every parameter and buffer, such that the answer still depends on the picture."""
    generator = torch.Generator().manual_seed(5)
    for tensor in {id(t): t for t in [*model.parameters(), *model.buffers()]}.values():
        if tensor.is_floating_point() and tensor.dim() > 1:
            normal = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data.copy_(normal / (tensor.numel() / tensor.shape[0]) ** 0.5)
        elif tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.3)
    return model


def answers(model, x):
    torch.manual_seed(0)
    with torch.no_grad():
        answer = model(x)
    if isinstance(answer, torch.Tensor):
        return [answer]
    return list(answer.values() if hasattr(answer, "values") else answer)


def law_error(model, x, axes):
    """The largest deviation, over the largest value."""
    rank, worst = x.dim() - 2, 0.0
    straight = answers(model, x)
    for letter in axes:
        axis = {"h": -1, "v": -2, "z": -3}[letter]
        for expected, seen in zip(straight, answers(model, x.flip(axis)), strict=True):
            expected = expected.flip(axis) if expected.dim() >= rank + 2 else expected
            worst = max(worst, float((seen - expected).abs().max() / expected.abs().max()))
    return worst


def still(model):
    """Dropout differs from one run to the next, whatever the network."""
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    return model


def weights(model):
    convs = [m for m in model.modules() if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear))]
    return sum(m.weight.numel() for m in convs[1:-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_one_line_converts_and_the_law_holds(name, tolerance):
    build, axes, sizes = NETWORKS[name]
    torch.manual_seed(0)
    model = build()
    assert law_error(randomise(build().double()).eval(), torch.randn(1, *sizes[0], dtype=torch.float64), axes) > 1e-3
    new = equivariant(model, axes, example=torch.randn(1, *sizes[0]))
    assert type(new) is type(model)
    assert [p.dtype for p in new.parameters()] == [p.dtype for p in model.parameters()]
    assert weights(new) <= weights(model) / 2 ** len(axes) * 1.08
    measured = still(randomise(new.double()))
    for training in (False, True):
        for size in sizes if max(sizes[0][1:]) < 100 else sizes[:1]:
            x = torch.randn(2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
            with torch.no_grad():
                assert new(x) is not None
            assert law_error(measured.train(training), x, axes) <= tolerance["float64"]


BACK = ["U-Net", "MONAI UNet, residual", "BasicUNet", "DynUNet", "SegResNet", "ResNet", "ConvNeXt", "MobileNetV2"]


@pytest.mark.parametrize("name", BACK)
def test_converted_networks_go_back_to_ordinary_layers(name):
    build, axes, sizes = NETWORKS[name]
    x = torch.randn(2, *sizes[-1], dtype=torch.float64)
    new = randomise(equivariant(build(), axes, example=torch.randn(1, *sizes[0]), measure=False).double()).eval()
    plain = desymmetrize(new, x)
    assert type(plain) is type(new)
    assert [type(module) for module in plain.modules() if type(module).__module__.startswith("symmetric_layers")] == []
    for expected, answer in zip(answers(new, x), answers(plain, x), strict=True):
        assert (expected - answer).abs().max() <= 1e-12 * expected.abs().max()


def test_a_network_of_the_size_of_nnunet_is_converted_in_seconds():
    model = monai.DynUNet(3, 1, 3, [3] * 6, [1, 2, 2, 2, 2, 2], [2] * 5, deep_supervision=True, deep_supr_num=3)
    before = time.process_time()
    new = equivariant(model, "hvz", example=torch.randn(1, 1, 128, 128, 128), measure=False)
    assert time.process_time() - before < 5
    assert weights(new) == weights(model) // 8


class Asking(nn.Sequential):
    """Looks at its numbers on the way."""

    def forward(self, x):
        return super().forward(x / max(float(x.abs().max()), 1e-3))


def test_a_network_that_asks_for_numbers_is_followed_with_numbers():
    model = Asking(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3))
    new = equivariant(model, "hv", example=torch.randn(1, 1, 8, 9))
    assert type(new) is Asking
    assert law_error(new.double(), torch.randn(1, 1, 8, 9, dtype=torch.float64), "hv") <= 1e-12


def test_the_first_convolution_lifts_and_the_last_one_comes_back():
    new = equivariant(UNet(), "hv", example=torch.randn(1, 1, 16, 12))
    assert isinstance(new.first, SymmetricConv2d)
    assert new.first.plan.inputs is None
    assert new.second.plan.inputs.counts == {"hv": 8}
    assert type(new.up).__name__ == "SymmetricConvTranspose2d"
    assert type(new.gate).__name__ == type(new.out).__name__ == "InvariantConv2d"
    assert type(new.pool).__name__ == "Mirrored"


class Classes(nn.Module):
    """Answers the number of the likeliest class of every pixel."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x))).argmax(1)


def test_the_number_of_a_class_is_an_answer():
    new = equivariant(Classes(), "h", example=torch.randn(1, 3, 8, 9))
    assert type(new.last).__name__ == "InvariantConv2d"
    new, x = new.double(), torch.randn(2, 3, 8, 9, dtype=torch.float64)
    assert torch.equal(new(x.flip(-1)), new(x).flip(-1))
