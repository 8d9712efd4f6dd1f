"""A line through noisy points, fitted with Lightning."""

import argparse

import lightning
import torch
import trainyard as ty
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
args = parser.parse_args()


class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, index):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch, index):
        self.log("val_loss", (self.layer(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), args.lr)


lightning.seed_everything(0)
x = torch.rand(200, 1)
data = TensorDataset(x, 3 * x - 1 + torch.randn(200, 1) * 0.1)
train, validation = torch.utils.data.random_split(data, [150, 50])
model, loaders = Line(), (DataLoader(train, 30, shuffle=True), DataLoader(validation, 50))
options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
trainer = lightning.Trainer(max_epochs=9, callbacks=[ty.lightning.Callback("val_loss")], **options)
trainer.fit(model, *loaders, ckpt_path=ty.lightning.latest_checkpoint())
print(trainer.callback_metrics)
