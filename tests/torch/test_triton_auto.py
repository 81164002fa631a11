"""Where `'auto'` takes the kernels for GPUs: where they were measured to be faster than cuDNN, and nowhere else."""

from importlib.util import find_spec

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import symmetric_layers.torch as layers
from symmetric_layers.torch.kernels import dispatch, reference
from symmetric_layers.torch.kernels.triton import measured

HERE = pytest.mark.skipif(find_spec("triton") is None, reason="No triton here: install it, `pip install triton`")
WIDE, HV = 512, {"hv": 512}
H100, A100 = (9, 0), (8, 0)


@pytest.fixture(autouse=True)
def _on_an_h100(monkeypatch):
    """Nothing is computed: tensors are without numbers, and the GPU is pretended."""
    monkeypatch.setattr(measured, "capability", lambda device: H100)
    monkeypatch.setattr(measured, "multiplies_as_tf32", lambda: True)
    monkeypatch.setattr(dispatch, "_is_on_a_gpu", lambda job: True)


def job(symmetry=HV, inputs=HV, channels=WIDE, size=28, pictures=64, dtype=torch.float32, last=True, kernel=3, **more):
    """A layer of so many channels and its input, both without numbers."""
    more = {"padding": kernel // 2, **more}
    layer = layers.SymmetricConv2d(
        channels, channels, kernel, symmetry=symmetry, in_symmetry=inputs, device="meta", dtype=dtype, **more
    )
    x = torch.empty(pictures, channels, size, size, device="meta", dtype=dtype)
    return layer._job(x.to(memory_format=torch.channels_last) if last else x)


def slower(**asked):
    """Why it is not taken for such a layer."""
    wanted = job(**asked)
    return measured.slower(wanted, wanted.x.dtype)


NARROW = {"symmetry": {"hv": 256}, "inputs": {"hv": 256}, "channels": 256}
BF16 = {"dtype": torch.bfloat16}


@pytest.mark.parametrize("asked", [{}, {"inputs": None}, NARROW, {**NARROW, "inputs": None}, BF16], ids=str)
def test_what_was_measured_to_be_faster_is_taken(asked):
    assert slower(**asked) is None


@pytest.mark.parametrize(
    ("asked", "clause"),
    [
        ({**BF16, "inputs": None}, "cuDNN is as fast or faster where input channels are in no orbits"),
        ({**BF16, **NARROW}, "cuDNN is as fast or faster below 512 channels"),
        ({"symmetry": {"hv": 128}, "inputs": {"hv": 128}, "channels": 128}, "below 256 channels"),
        ({"symmetry": {"h": 512}, "inputs": {"h": 512}}, "3x3 filters in orbits of 'hv' only"),
        ({"symmetry": {"hv": 256}}, "3x3 filters in orbits of 'hv' only"),
        ({"inputs": {"h": 512}, "symmetry": {"h": 512}}, "3x3 filters in orbits of 'hv' only"),
        ({"kernel": 1}, "3x3 filters"),
        ({"kernel": 5}, "3x3 filters"),
        ({"stride": 2}, "at stride 1"),
        ({"dilation": 2, "padding": 2}, "3x3 filters"),
        ({"padding": 0}, "3x3 filters"),
        ({"padding_mode": "reflect"}, "3x3 filters"),
        ({"pictures": 8}, "of 50000 pixels and more"),
        ({"last": False}, "channels-last pictures"),
        ({"symmetry": {"hv": 520}, "inputs": {"hv": 520}, "channels": 520}, "for channels that are multiples of 32"),
        ({"dtype": torch.float16}, "it was not measured in torch.float16; ask for it with algorithm='triton'"),
    ],
    ids=str,
)  # fmt: skip
def test_what_was_slower_or_not_measured_is_not(asked, clause):
    assert clause in slower(**asked)


def test_float32_without_tf32_was_not_measured_as_it_is_now(monkeypatch):
    monkeypatch.setattr(measured, "multiplies_as_tf32", lambda: False)
    assert slower() == "it was not measured in float32 without TF32; ask for it with algorithm='triton'"


@pytest.mark.parametrize("hip", [None, "6.4"])
def test_other_gpus_were_not_measured(monkeypatch, hip):
    monkeypatch.setattr(measured, "capability", lambda device: H100 if hip else A100)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert slower().startswith("it was measured on GPUs of compute capability 9.0 only (H100, H200)")


@HERE
def test_auto_asks_on_a_gpu_and_says_why_not(monkeypatch):
    from symmetric_layers.torch.kernels import triton

    monkeypatch.setattr(triton, "multiplied_as", lambda tensor: tensor.dtype)  # there is no autocast without numbers
    monkeypatch.setattr(dispatch, "_cannot", lambda job, name: None if name == "triton" else "it has no GPU")
    assert dispatch.chosen(job()) == "triton"
    assert dispatch.explain(job(), "auto") == "'triton' is taken."
    assert dispatch.chosen(job(pictures=8)) == "reference"
    said = dispatch.explain(job(pictures=8), "auto").split("\n")
    assert said[:2] == ["'reference' is taken.", f"'triton' is not: {slower(pictures=8)}."]


@pytest.fixture
def _large_enough(monkeypatch):
    """Whatever its size, a picture is as large as those that were measured."""
    monkeypatch.setattr(measured, "_PIXELS", 1)
    monkeypatch.setattr(measured, "_CHANNELS", {"tf32": 4, "bf16": 4})
    monkeypatch.setattr("symmetric_layers.torch.kernels.triton.interpreted", lambda: True)  # nothing else refuses


def small(algorithm="auto"):
    """A layer that would be taken, but for its size, and an input."""
    layer = layers.SymmetricConv2d(
        32, 32, 3, padding=1, symmetry={"hv": 32}, in_symmetry={"hv": 32}, algorithm=algorithm
    )
    return layer, torch.randn(2, 32, 6, 5).to(memory_format=torch.channels_last)


@HERE
@pytest.mark.usefixtures("_large_enough")
def test_compilers_exporters_and_tracers_are_left_to_the_host():
    """They would guard layouts, and exported programs are to run without this package."""
    layer, x = small()
    layer.algorithm = "reference"
    expected, layer.algorithm = layer(x), "auto"
    for program in (
        torch.export.export(layer, (x,), strict=False).module(),
        torch.export.export(layer, (x,), strict=True).module(),
        make_fx(layer, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x),
        torch.compile(layer, fullgraph=True, backend="eager", dynamic=True),
    ):
        assert "triton" not in str(getattr(program, "graph", ""))
        torch.testing.assert_close(program(x), expected, rtol=1e-4, atol=1e-4)


@HERE
@pytest.mark.usefixtures("_large_enough")
def test_function_transforms_go_to_the_host():
    layer, x = small()
    assert dispatch.chosen(layer._job(x)) == "triton"
    layer.algorithm = "reference"
    expected, layer.algorithm = layer(x), "auto"
    found = torch.func.vmap(layer)(x.unsqueeze(0))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@HERE
@pytest.mark.usefixtures("_large_enough")
def test_under_autocast_nothing_is_cast_to_ask(monkeypatch):
    from symmetric_layers.torch.kernels import triton

    layer, x = small()
    monkeypatch.setattr(triton, "cast", None)
    with torch.autocast("cpu", torch.bfloat16):
        assert layers.why_not(layer, x) == "'triton' is taken."
    assert layers.why_not(layer, x) == "'triton' is taken."


def test_auto_answers_with_what_it_chose(monkeypatch):
    """Through the same door as every other algorithm."""
    asked, taken = [], []
    monkeypatch.setattr(dispatch, "chosen", lambda job: "triton")
    monkeypatch.setattr(dispatch, "_algorithm", lambda job, name: asked.append(name) or reference)
    monkeypatch.setattr(reference, "conv", lambda job: taken.append(job))
    wanted = job()
    dispatch.conv(wanted)
    assert asked == ["triton"]
    assert taken == [wanted]


def test_processors_never_ask(monkeypatch):
    monkeypatch.undo()
    layer = layers.SymmetricConv2d(4, 4, 3, symmetry={"hv": 4})
    assert "triton" not in layers.why_not(layer, torch.zeros(1, 4, 5, 5))
