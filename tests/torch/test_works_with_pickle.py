"""Layers are copied, sent and saved whole or as what they store, and answer alike afterwards, in any process."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases_torch import CONVOLUTIONS, EVERYTHING, STORING, Case, host, name
from torch import nn

OTHER_PROCESS = """
import sys
import torch
from cases_torch import EVERYTHING

for case in EVERYTHING:
    layer = case.layer(seed=11)
    torch.save(layer, f"{sys.argv[1]}/{case.name}.layer")
    torch.save(layer.state_dict(), f"{sys.argv[1]}/{case.name}.state")
    torch.save(layer.eval()(case.input()).detach(), f"{sys.argv[1]}/{case.name}.answer")
"""


def sent(layer: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What another process has written: whole layers, what they store, and how they answer in evaluation."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-W", "error", "-c", OTHER_PROCESS, folder], env=environment, check=True)
    return folder


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_copied_layer_answers_alike_and_shares_no_memory(case: Case, again) -> None:
    layer, x = case.layer(), case.input()
    if list(layer.parameters()):
        layer(x).sum().backward()
    twin = again(layer)
    torch.testing.assert_close(twin.state_dict(), layer.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(twin(x), layer(x), rtol=0, atol=0)
    places = {value.data_ptr() for value in layer.state_dict().values()}
    assert not places & {value.data_ptr() for value in twin.state_dict().values()}
    assert repr(twin) == repr(layer)


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_layer_saved_whole_answers_alike(case: Case, tmp_path: Path) -> None:
    layer = case.layer()
    torch.save(layer, tmp_path / "layer.pt")
    loaded = torch.load(tmp_path / "layer.pt", weights_only=False)
    torch.testing.assert_close(loaded(case.input()), layer(case.input()), rtol=0, atol=0)


@pytest.mark.parametrize("case", STORING, ids=name)
def test_what_a_layer_stores_is_saved_and_loaded_by_careful_readers(case: Case, tmp_path: Path) -> None:
    layer = case.layer().eval()
    torch.save(layer.state_dict(), tmp_path / "state.pt")
    fresh = case.layer(seed=4).eval()
    assert not torch.equal(fresh(case.input()), layer(case.input()))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(type(value) is torch.Tensor for value in state.values())
    fresh.load_state_dict(state, strict=True)
    torch.testing.assert_close(fresh(case.input()), layer(case.input()), rtol=0, atol=0)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=name)
def test_a_convolution_stores_under_its_hosts_names_and_nothing_else(case: Case) -> None:
    layer = case.layer()
    assert list(layer.state_dict()) == list(host(layer).state_dict())


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_the_same_keys_are_stored_in_training_and_in_evaluation(case: Case) -> None:
    layer = case.layer()
    before = list(layer.train().state_dict())
    layer(case.input())
    assert list(layer.eval().state_dict()) == before
    layer(case.input())
    assert list(layer.state_dict()) == before


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_what_another_process_has_stored_answers_alike_here(case: Case, elsewhere: Path) -> None:
    layer = case.layer().eval()
    layer.load_state_dict(torch.load(elsewhere / f"{case.name}.state", weights_only=True), strict=True)
    answer = torch.load(elsewhere / f"{case.name}.answer", weights_only=True)
    torch.testing.assert_close(layer(case.input()), answer)


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_a_layer_from_another_process_answers_alike_here(case: Case, elsewhere: Path) -> None:
    layer = torch.load(elsewhere / f"{case.name}.layer", weights_only=False).eval()
    answer = torch.load(elsewhere / f"{case.name}.answer", weights_only=True)
    torch.testing.assert_close(layer(case.input()), answer)
