"""`torch.export` writes every layer to a file, for batches of any size."""

from pathlib import Path

import pytest
import torch
from cases_torch import EVERYTHING, GLOBAL, NETWORK, NETWORK_EVAL, POOLS, SINGLE_PICTURES, Case, name
from torch.export import Dim

pytestmark = [
    # third parties: exporting warns of helpers that PyTorch itself still uses
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]


@pytest.mark.parametrize("case", SINGLE_PICTURES, ids=name)
def test_an_exported_layer_answers_alike_after_a_file_for_any_batch(case: Case, tmp_path: Path) -> None:
    answers_alike_after_a_file(case, False, tmp_path / "layer.pt2")


@pytest.mark.parametrize("case", [*POOLS, *GLOBAL, NETWORK_EVAL], ids=name)
def test_a_strictly_exported_layer_answers_alike_after_a_file_for_any_batch(case: Case, tmp_path: Path) -> None:
    answers_alike_after_a_file(case, True, tmp_path / "layer.pt2")


def answers_alike_after_a_file(case: Case, strict: bool, file: Path) -> None:
    layer = case.layer()
    program = torch.export.export(layer, (case.input(),), dynamic_shapes=({0: Dim("batch", min=2)},), strict=strict)
    torch.export.save(program, file)
    loaded = torch.export.load(file)
    for batch in (3, 7):
        x = case.input(batch)
        torch.testing.assert_close(loaded.module()(x), layer(x))


@pytest.mark.parametrize("case", EVERYTHING, ids=name)
def test_an_exported_layer_holds_what_is_stored_and_nothing_else(case: Case) -> None:
    layer = case.layer()
    program = torch.export.export(layer, (case.input(),))
    shapes = {key: value.shape for key, value in program.state_dict.items()}
    assert shapes == {key: value.shape for key, value in layer.state_dict().items()}
    assert program.constants == {}


def test_a_network_exported_in_training_mode_counts_the_batches_it_sees() -> None:
    network, x = NETWORK.layer(), NETWORK.input()
    exported = torch.export.export(NETWORK.layer(), (x,)).module()
    torch.testing.assert_close(exported(x), network(x))
    torch.testing.assert_close(exported.state_dict(), network.state_dict())
    assert exported.state_dict()["norm.num_batches_tracked"] == 1
