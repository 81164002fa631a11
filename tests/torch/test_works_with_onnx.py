"""Every layer becomes an ONNX file that ONNX Runtime answers alike, for batches of any size."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from cases_torch import SINGLE_PICTURES, Case, name
from torch.export import Dim

pytestmark = [
    # third parties: the exporter warns of helpers that PyTorch itself still uses
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]


@pytest.mark.parametrize("case", SINGLE_PICTURES, ids=name)
def test_onnx_runtime_answers_as_the_layer_does_for_any_batch(case: Case, tmp_path: Path) -> None:
    layer, file = case.layer().eval(), tmp_path / "layer.onnx"
    batch = ({0: Dim("batch", min=2)},)
    program = torch.onnx.export(layer, (case.input(),), dynamo=True, dynamic_shapes=batch, verbose=False)
    program.save(file)
    onnx.checker.check_model(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    for size in (3, 7, 2):
        x = case.input(size)
        (answer,) = session.run(None, {argument.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), layer(x).detach())
