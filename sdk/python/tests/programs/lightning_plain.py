"""Lightning as it is written for torchrun, without the package: ranks by torchelastic's variables, a printed report."""

import json
import logging
import os

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch, index):
        loss = (self.layer(batch[0]) - batch[1]).square().mean()
        self.log("val_loss", loss, sync_dist=True)

    def on_validation_epoch_end(self):
        ranks = self.trainer.world_size
        loss = self.trainer.callback_metrics["val_loss"].item()
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            report = {"val_loss": loss, "ranks": ranks, "strategy_is_ddp": float(IS_DDP())}
            print(json.dumps({"epoch": self.current_epoch, "metrics": report}))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)


def IS_DDP():
    return isinstance(trainer.strategy, lightning.pytorch.strategies.DDPStrategy)


lightning.seed_everything(0)
x = torch.rand(200, 1)
data = TensorDataset(x, 3 * x - 1)
trainer = lightning.Trainer(
    max_epochs=3,
    accelerator="cpu",
    devices=int(os.environ["DEVICES"]),
    num_nodes=int(os.environ["NODES"]),
    strategy="ddp",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(Line(), DataLoader(data, 25), DataLoader(data, 50))
