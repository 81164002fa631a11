"""What networks are told beside the picture: steps, classes, words; and gates that are picked out one by one."""

import pytest
import torch
import torch.nn.functional as F
from test_convert_networks import randomise
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import desymmetrize, equivariance_error, equivariant


class Conditional(nn.Module):
    """A step of a diffusion: a picture, a step in time, a class and words, which positions attend to."""

    def __init__(self, channels=16):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, channels, 3, padding=1), nn.GroupNorm(2, channels)
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, channels))
        self.labels = nn.Embedding(5, channels)
        self.q, self.k, self.v = nn.Linear(channels, channels), nn.Linear(12, channels), nn.Linear(12, channels)
        self.more = nn.Linear(18, channels)
        self.out = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, x, time, label, words, sizes):
        told = self.time(time) + self.labels(label)
        x = F.silu(self.norm(self.stem(x))) + told[:, :, None, None]
        x = x + self.more(torch.cat([sizes.flatten().reshape(len(x), -1), time, time[:, :4]], 1))[..., None, None]
        q, k, v = self.q(x.flatten(2).mT), self.k(words), self.v(words)
        x = x + ((q @ k.mT).softmax(-1) @ v).mT.reshape(x.shape)
        return self.out(x)


def asked():
    words, sizes = torch.randn(3, 7, 12), torch.rand(3, 3, 2)
    return torch.randn(3, 2, 6, 5), torch.randn(3, 8), torch.tensor([0, 4, 4]), words, sizes


@pytest.mark.parametrize("axes", ["h", "hv"])
def test_steps_classes_and_words_are_told_to_orbits(axes):
    torch.manual_seed(0)
    model, x = Conditional(), asked()
    new = randomise(equivariant(model, axes, example=x).double()).eval()
    told = tuple(one.double() if one.is_floating_point() else one for one in x)
    assert max(row.relative for row in equivariance_error(new, told, axes)) < 1e-12
    assert type(new.q).__name__ == type(new.k).__name__ == "SymmetricLinear"
    assert new.labels.weight.shape == (5, 16 // 2 ** len(axes)), "one column for every orbit"
    back = desymmetrize(new, example=told)
    assert torch.allclose(back(*told), new(*told), atol=1e-12)
    assert back.labels.weight.shape == (5, 16)
    again = equivariant(model, axes, example=x).double()
    again.load_state_dict(new.state_dict())
    assert torch.equal(again.eval()(*told), new(*told))


class Labelled(nn.Module):
    """Classes alone are told, and pictures of numbers of classes are looked up."""

    def __init__(self, **how):
        super().__init__()
        self.stem, self.labels, self.out = nn.Conv2d(1, 8, 3), nn.Embedding(4, 8, **how), nn.Conv2d(8, 1, 3)

    def forward(self, x, label):
        return self.out(F.relu(self.stem(x) + self.labels(label)[:, :, None, None]))


def test_what_is_looked_up_learns_as_it_did():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 7, 7), torch.tensor([1, 3])
    new = equivariant(Labelled(padding_idx=0), "h", example=x)
    optimizer = torch.optim.SGD(new.parameters(), 0.1)
    before = new.labels.weight.detach().clone()
    new(*x).square().sum().backward()
    optimizer.step()
    changed = (new.labels.weight != before).any(1)
    assert changed.tolist() == [False, True, False, True]
    assert new.labels.padding_idx == 0


class Kept(nn.Module):
    """Words that meet no orbits are nobody's mirrors."""

    def __init__(self):
        super().__init__()
        self.stem, self.labels, self.tell = nn.Conv2d(1, 8, 3), nn.Embedding(4, 6), nn.Linear(6, 8)
        self.out = nn.Conv2d(8, 1, 3)

    def forward(self, x, label):
        return self.out(F.relu(self.stem(x) * self.tell(self.labels(label))[:, :, None, None]))


def test_what_is_looked_up_for_a_linear_layer_stays():
    x = torch.randn(2, 1, 7, 7), torch.tensor([1, 3])
    assert equivariant(Kept(), "h", example=x).labels.weight.shape == (4, 6)


class Fused(nn.Module):
    """Two pictures, weighed position by position with two maps that are picked out of one answer."""

    def __init__(self, pick):
        super().__init__()
        self.pick, self.a, self.b = pick, nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 3, padding=1)
        self.gate, self.out = nn.Conv2d(16, 2, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a, b = self.a(x), self.b(x).relu()
        weights = self.gate(torch.cat([a, b], 1)).softmax(1)
        left, right = self.pick(weights)
        return self.out((a * left + b * right).relu())


@pytest.mark.parametrize(
    "pick",
    [
        lambda w: (w[:, 0:1], w[:, 1:2]),
        lambda w: (w[:, 0, None], w[:, 1, None]),
        lambda w: (w[:, 0].unsqueeze(1), w[:, 1].unsqueeze(1)),
        lambda w: w.chunk(2, 1),
        lambda w: [one.unsqueeze(1) for one in w.unbind(1)],
        lambda w: (w[:, 0][:, None].expand(-1, 8, -1, -1), w.narrow(1, 1, 1)),
    ],
    ids=["slices", "picked", "unsqueezed", "chunks", "unbound", "expanded"],
)
def test_gates_that_are_picked_out_one_by_one_are_plain(pick):
    x, said = torch.randn(2, 1, 6, 5), []
    new = equivariant(Fused(pick), "h", example=x, report=said.append)
    assert said == ["'gate': plain, because channels that they make are picked out one by one."]
    assert type(new.gate).__name__ == "InvariantConv2d"
    assert type(new.a).__name__ == "SymmetricConv2d"


class OneByOne(nn.Module):
    """Channels that are taken apart, treated alike and put together again remain orbits."""

    def __init__(self, apart):
        super().__init__()
        self.apart, self.stem, self.out = apart, nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.out(self.apart(x))


@pytest.mark.parametrize(
    "apart",
    [
        lambda x: torch.cat([F.avg_pool2d(one, 3, 1, 1) for one in x.split(1, 1)], 1),
        lambda x: torch.stack([one * 2 for one in x.unbind(1)], 1),
        lambda x: torch.cat([x[:, i, None].tanh() for i in range(4)], 1),
    ],
    ids=["split", "stacked", "picked"],
)
def test_channels_that_are_put_together_again_stay_orbits(apart):
    new = equivariant(OneByOne(apart), "h", example=torch.randn(2, 1, 6, 5))
    assert type(new.stem).__name__ == "SymmetricConv2d"


def test_models_that_keep_tables_of_answers_are_copied():
    """With their history, which PyTorch refuses to copy."""

    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.scale = nn.Conv2d(1, 4, 3), nn.Parameter(torch.ones(4, 1, 1))
            self.out, self.known = nn.Conv2d(4, 1, 1), {"deep": [{}]}

        def forward(self, x):
            self.known["deep"][0]["scale"] = self.scale * 2
            return self.out(self.stem(x) * self.scale)

    model, x = Remembering(), torch.randn(1, 1, 6, 5)
    model(x)
    assert equivariant(model, "h", example=x).stem.weight.shape[0] == 2


class Written(nn.Module):
    """Writes a picture into a larger one, that was there before or is made for it."""

    def __init__(self, like):
        super().__init__()
        self.like, self.stem, self.out = like, nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 3)

    def forward(self, x):
        y = self.stem(x).relu()
        around = self.like(y)
        around[:, :, 1:-1, 1:-1] = y
        around[..., :1] = y[..., :1].mean((2, 3), keepdim=True)
        around[..., -1:] = y[..., -1:].mean((2, 3), keepdim=True)
        return self.out(around)


@pytest.mark.parametrize(
    "like",
    [
        lambda y: torch.zeros(len(y), 8, y.shape[2] + 2, y.shape[3] + 2, dtype=y.dtype),
        lambda y: y.new_zeros(len(y), 8, y.shape[2] + 2, y.shape[3] + 2),
        lambda y: F.pad(y, (1, 1, 1, 1)),
    ],
    ids=["zeros", "new", "padded"],
)
def test_what_is_written_into_a_picture_belongs_to_its_channels(like):
    new = equivariant(Written(like), "h", example=torch.randn(1, 1, 8, 7))
    assert type(new.stem).__name__ == type(new.out).__name__.replace("Invariant", "Symmetric") == "SymmetricConv2d"
    assert new.out.invariance.inputs.orbits


def test_what_is_written_elsewhere_is_lost():
    class Moved(Written):
        def forward(self, x):
            y = self.stem(x)
            around = torch.zeros(1, 16, *y.shape[2:], dtype=y.dtype)
            around[:, 4:12] = y
            return self.wide(around)

    model = Moved(None)
    model.wide = nn.Conv2d(16, 1, 1)
    with pytest.raises(SymmetryError, match=r"'wide', a Conv2d, reads channels .* through '__setitem__'"):
        equivariant(model, "h", example=torch.randn(1, 1, 8, 7))


def test_tables_whose_gradients_are_sparse_are_refused():
    model = Labelled(sparse=True)
    with pytest.raises(SymmetryError) as refusal:
        equivariant(model, "h", example=(torch.randn(2, 1, 7, 7), torch.tensor([1, 3])))
    assert str(refusal.value) == (
        "model: 'labels' has sparse gradients, which cannot be shared within orbits. Expected sparse=False. Set that, "
        "or keep that part ordinary with keep."
    )


@pytest.mark.parametrize("first", [True, False])
def test_what_is_looked_up_may_be_read_before_it_meets_orbits(first):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.labels = nn.Conv2d(1, 8, 3), nn.Embedding(4, 8)
            self.gate, self.out = nn.Linear(8, 8), nn.Conv2d(8, 1, 3)

        def forward(self, x, label):
            told = self.labels(label)
            gate = self.gate(told)[:, :, None, None] if first else 0
            y = self.stem(x) + told[:, :, None, None]
            return self.out(y.relu() * (gate if first else self.gate(told)[:, :, None, None]))

    new = equivariant(Both(), "h", example=(torch.randn(2, 1, 7, 7), torch.tensor([1, 3])))
    assert type(new.stem).__name__ == "SymmetricConv2d"
    assert new.labels.weight.shape == (4, 4)
