"""Lightning trains a network of these layers, and brings it back from its checkpoint."""

from pathlib import Path

import pytest
import torch
from cases_torch import NETWORK, Network
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning.pytorch")

pytestmark = [
    # third parties: Lightning gives advice about workers and logs, and uses what PyTorch calls deprecated
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
]


class Lesson(lightning.LightningModule):
    """Pictures with a vertical edge, pictures with a horizontal edge, pictures without: which is which?"""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def pictures() -> TensorDataset:
    torch.manual_seed(0)
    x, y = 0.1 * torch.randn(48, 1, *NETWORK.shape[2:]), torch.arange(48) % 3
    x[y == 1, :, :, 3:] += 1
    x[y == 2, :, 3:] += 1
    return TensorDataset(x, y)


def test_lightning_lowers_the_loss_and_a_checkpoint_answers_alike(tmp_path: Path) -> None:
    data = pictures()
    lesson = Lesson()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=10,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(lesson, DataLoader(data, batch_size=16))
    assert len(lesson.losses) == 30
    assert sum(lesson.losses[-3:]) < 0.5 * sum(lesson.losses[:3])
    trainer.save_checkpoint(tmp_path / "lesson.ckpt")
    restored = Lesson.load_from_checkpoint(tmp_path / "lesson.ckpt").eval()
    x = data.tensors[0]
    torch.testing.assert_close(restored(x), lesson.eval()(x), rtol=0, atol=0)
