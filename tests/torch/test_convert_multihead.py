"""The host's multi-head attention, and its transformer blocks, between convolutions."""

import copy

import pytest
import torch
from torch import nn

from symmetric_layers import SymmetryError
from symmetric_layers.torch import desymmetrize, equivariance_error, equivariant

PICTURE = torch.randn(2, 3, 8, 9)


class Hybrid(nn.Module):
    """Convolutions, tokens without positions, a head that takes their mean."""

    def __init__(self, attention, features=16):
        super().__init__()
        self.stem = nn.Conv2d(3, features, 3, 2, 1)
        self.attention, self.head = attention, nn.Linear(features, 4)

    def forward(self, x):
        tokens = torch.relu(self.stem(x)).flatten(2).mT
        return self.head(self.answer(tokens).mean(1))

    def answer(self, tokens):
        return self.attention(tokens)


class Attends(Hybrid):
    """The layer itself."""

    def answer(self, tokens):
        given = tokens if self.attention.batch_first else tokens.transpose(0, 1)
        found = given + self.attention(given, given, given, need_weights=False)[0]
        return found if self.attention.batch_first else found.transpose(0, 1)


def block(**more):
    return nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **more)


NETWORKS = {
    "attention": lambda: Attends(nn.MultiheadAttention(16, 2, batch_first=True)),
    "positions first": lambda: Attends(nn.MultiheadAttention(16, 4)),
    "extra keys": lambda: Attends(nn.MultiheadAttention(16, 4, add_bias_kv=True, add_zero_attn=True, bias=False)),
    "block": lambda: Hybrid(block()),
    "block, norm first": lambda: Hybrid(block(norm_first=True, activation="gelu")),
    "encoder": lambda: Hybrid(nn.TransformerEncoder(block(), 2)),
}


@pytest.mark.parametrize("axes", ["h", "hv"])
@pytest.mark.parametrize("name", NETWORKS)
def test_attention_of_the_host_obeys_in_every_mode(name, axes):
    model = NETWORKS[name]()
    twin = equivariant(model, axes, example=PICTURE)
    assert twin.state_dict().keys() == model.state_dict().keys()
    for training in (True, False):  # in evaluation the host has short cuts
        probe = copy.deepcopy(twin).double().train(training)
        found = equivariance_error(probe, PICTURE.double(), axes)
        assert max(row.relative for row in found) < 1e-12
    with torch.inference_mode():
        straight, mirrored = (copy.deepcopy(twin).double().eval()(x.double()) for x in (PICTURE, PICTURE.flip(-1)))
    torch.testing.assert_close(straight, mirrored, rtol=0, atol=1e-12)
    plain = desymmetrize(twin.eval(), PICTURE)
    torch.testing.assert_close(plain(PICTURE), twin(PICTURE), rtol=1e-4, atol=1e-5)
    assert not [module for module in plain.modules() if type(module).__module__.startswith("symmetric_layers.")]


def test_weights_are_half_as_many_and_start_from_those_of_representatives():
    model = NETWORKS["attention"]()
    twin = equivariant(model, "h", example=PICTURE)
    assert twin.attention.in_proj_weight.shape == (24, 16)
    assert torch.equal(
        twin.attention.in_proj_weight, model.attention.in_proj_weight.unflatten(0, (3, 16))[:, ::2].flatten(0, 1)
    )
    assert torch.equal(twin.attention.full_in_proj_bias().view(3, 8, 2)[..., 0], twin.attention.in_proj_bias.view(3, 8))
    twin(PICTURE).sum().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    twin.attention.register_forward_hook(lambda module, args, answer: None)
    assert len(desymmetrize(twin, PICTURE).attention._forward_hooks) == 1
    wider = equivariant(model, "h", example=PICTURE, width=2)
    assert wider.attention.embed_dim == 32


@pytest.mark.parametrize("need_weights", [True, False])
def test_it_answers_as_the_host_with_full_weights(need_weights):
    layer = equivariant(NETWORKS["positions first"](), "h", example=PICTURE).attention.eval()
    host = desymmetrize(nn.Sequential(layer))[0]
    assert type(host) is nn.MultiheadAttention
    query, key = torch.randn(5, 2, 16), torch.randn(7, 2, 16)
    masks = {
        "key_padding_mask": torch.tensor([[False] * 6 + [True]] * 2),
        "attn_mask": torch.zeros(5, 7, dtype=torch.bool).triu(4),
    }
    found = layer(query, key, key, need_weights=need_weights, **masks)
    torch.testing.assert_close(found, host(query, key, key, need_weights=need_weights, **masks))
    assert (found[1] is not None) is need_weights


def test_heads_that_are_torn_apart_and_plain_ends_are_refused():
    with pytest.raises(SymmetryError, match="'attention' has 16 output channels in 8 groups, which are no whole"):
        equivariant(Attends(nn.MultiheadAttention(16, 8)), "hv", example=PICTURE)

    class Ends(Attends):
        def forward(self, x):
            tokens = self.stem(x).flatten(2).mT
            return self.attention(tokens, tokens, tokens)[0].mT.unflatten(2, (4, 5))

    with pytest.raises(SymmetryError, match="'attention', a MultiheadAttention, attends to orbits and gives plain"):
        equivariant(Ends(nn.MultiheadAttention(16, 2, batch_first=True)), "h", example=PICTURE)


class Told(Hybrid):
    """Positions attend to words, which no mirror knows."""

    def __init__(self, attention, features=12):
        super().__init__(attention)
        self.words = nn.Linear(5, features)

    def forward(self, x, words):
        tokens = torch.relu(self.stem(x)).flatten(2).mT
        return self.head(self.answer(tokens, words).mean(1))

    def answer(self, tokens, words):
        if isinstance(self.attention, nn.TransformerDecoderLayer):
            return self.attention(tokens, words)
        return tokens + self.attention(tokens, words, words)[0]


TOLD = {
    "as many": (lambda: nn.MultiheadAttention(16, 2, batch_first=True), 16),
    "other sizes": (lambda: nn.MultiheadAttention(16, 4, batch_first=True, kdim=12, vdim=12, add_bias_kv=True), 12),
    "decoder": (lambda: nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 16),
}


@pytest.mark.parametrize("axes", ["h", "hv"])
@pytest.mark.parametrize("name", TOLD)
def test_positions_may_attend_to_words(name, axes):
    build, features = TOLD[name]
    model, x = Told(build()), (PICTURE, torch.randn(2, 7, features))
    twin = equivariant(model, axes, example=x)
    assert twin.state_dict().keys() == model.state_dict().keys()
    for training in (True, False):
        probe = copy.deepcopy(twin).double().train(training)
        found = equivariance_error(probe, tuple(one.double() for one in x), axes)
        assert max(row.relative for row in found) < 1e-12
    plain = desymmetrize(twin.eval(), x)
    torch.testing.assert_close(plain(*x), twin(*x), rtol=1e-4, atol=1e-5)
    attention = plain.attention if name != "decoder" else plain.attention.multihead_attn
    assert type(attention) is nn.MultiheadAttention
    again = equivariant(model, axes, example=x).eval()
    again.load_state_dict(twin.state_dict())
    torch.testing.assert_close(again(*x), twin(*x))
    assert equivariant(model, axes, example=x, width=2).attention is not None


def test_an_optimizer_gets_what_one_parameter_was_divided_into():
    model, x = Told(nn.MultiheadAttention(16, 2, batch_first=True), 16), (PICTURE, torch.randn(2, 7, 16))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    twin = equivariant(model, "h", example=x, width=2, inplace=True, optimizer=optimizer)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in twin.parameters()}
