"""The callbacks with the frameworks themselves, each in a process of its own (their imports are large).

Every program is run twice: until a rung, and on from the checkpoint that it has made there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import unittest
from typing import Any, Tuple

from fake_worker import FakeWorker
from support import Case

import trainyard as ty

HERE = {"OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}


class Framework(Case):
    def run_twice(self, text: str) -> Tuple[FakeWorker, FakeWorker, Any]:
        """Until epoch 2, then from there until epoch 4 (complete epochs)."""
        first = self.run_once(text)
        taken = first.checkpoints[-1]
        second = self.run_once(
            text, restore={"path": taken["taken"], "epoch": 2, "step": taken["step"]}
        )
        return first, second, taken

    def run_once(self, text: str, **welcome: Any) -> FakeWorker:
        worker = self.worker(**welcome)
        # The framework counts as it does: the stop comes with the second epoch that is reported.
        epochs = set()
        report = worker._report

        def counted(message: Any) -> Any:
            read = report(message)
            epochs.add(read["epoch"])
            if (
                len(epochs) == 2
                and "val_loss" in read["metrics"]
                or "eval_loss" in read["metrics"]
                and len(epochs) == 2
            ):
                worker.push_stop("rung")
            return read

        worker._report = counted  # type: ignore[method-assign]
        done = self.program(text, HERE)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:] + done.stdout[-1000:])
        return worker


def epochs(worker: FakeWorker) -> list:
    return sorted({report["epoch"] for report in worker.reports})


@unittest.skipUnless(importlib.util.find_spec("keras"), "Keras is not installed")
class Keras(Framework):
    TEXT = """
        import numpy as np, keras, trainyard as ty
        x = np.arange(16, dtype="float32")[:, None] / 16
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        model.fit(x, 2 * x, epochs=10, verbose=0, validation_split=0.25,
                  callbacks=[ty.keras.Callback()])
        print(int(model.optimizer.iterations))
        """

    def test_reports_stops_and_goes_on(self) -> None:
        first, second, taken = self.run_twice(self.TEXT)
        self.assertEqual((epochs(first), epochs(second)), ([0, 1], [2, 3]))
        self.assertEqual(set(first.reports[0]["metrics"]), {"loss", "val_loss"})
        self.assertEqual(taken["epoch"], 1)
        self.assertLess(second.reports[0]["metrics"]["loss"], first.reports[-1]["metrics"]["loss"])


@unittest.skipUnless(importlib.util.find_spec("lightning"), "Lightning is not installed")
class Lightning(Framework):
    TEXT = """
        import torch, lightning as L, trainyard as ty
        from torch.utils.data import DataLoader, TensorDataset
        class Line(L.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)
            def training_step(self, batch, i):
                loss = (self.layer(batch[0]) - batch[1]).square().mean()
                self.log("loss", loss)
                return loss
            def validation_step(self, batch, i):
                self.log("val_loss", (self.layer(batch[0]) - batch[1]).square().mean())
            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), 0.05)
        x = torch.arange(16.0)[:, None] / 16
        loader = DataLoader(TensorDataset(x, 2 * x), batch_size=8)
        trainer = L.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False,
                            enable_progress_bar=False, callbacks=[ty.lightning.Callback(MONITOR)])
        trainer.fit(Line(), loader, loader, ckpt_path=ty.lightning.latest_checkpoint())
        """

    def test_reports_stops_and_goes_on(self) -> None:
        first, second, taken = self.run_twice(self.TEXT.replace("MONITOR", ""))
        self.assertEqual((epochs(first), epochs(second)), ([0, 1], [2, 3]))
        self.assertEqual(set(first.reports[0]["metrics"]), {"loss", "val_loss"})
        self.assertEqual((taken["epoch"], taken["step"]), (1, 4))
        self.assertEqual([r["step"] for r in second.reports], [6, 8])

    def test_only_what_is_monitored_is_reported(self) -> None:
        text = self.TEXT.replace("MONITOR", "monitor='val_loss'")
        worker = self.run_once(text)
        self.assertEqual(set(worker.reports[0]["metrics"]), {"val_loss"})
        self.worker()
        done = self.program(self.TEXT.replace("MONITOR", "['acc']"), HERE)
        self.assertIn("monitor is 'acc', which was not logged; there are", done.stderr)

    def test_monitor_is_a_name_or_names(self) -> None:
        with self.assertRaisesRegex(TypeError, "monitor is 3"):
            ty.lightning.Callback(3)


@unittest.skipUnless(importlib.util.find_spec("transformers"), "Transformers is not installed")
@unittest.skipUnless(importlib.util.find_spec("accelerate"), "Accelerate is not installed")
class Transformers(Framework):
    TEXT = """
        import torch, trainyard as ty
        from transformers import Trainer, TrainingArguments
        class Line(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)
            def forward(self, x, labels=None):
                y = self.layer(x)
                return {"loss": (y - labels).square().mean(), "logits": y}
        data = [{"x": torch.tensor([i / 16]), "labels": torch.tensor([i / 8])} for i in range(16)]
        arguments = TrainingArguments("out", num_train_epochs=10, per_device_train_batch_size=8,
            logging_steps=1, report_to=[], disable_tqdm=True, use_cpu=True, ARGUMENTS)
        trainer = Trainer(Line(), arguments, train_dataset=data, eval_dataset=data,
            callbacks=[ty.transformers.Callback()])
        trainer.train(resume_from_checkpoint=ty.transformers.latest_checkpoint())
        """

    def test_reports_stops_and_goes_on(self) -> None:
        for saving in ("epoch", "no"):
            text = self.TEXT.replace(
                "ARGUMENTS", f"eval_strategy='epoch', save_strategy='{saving}'"
            )
            first, second, taken = self.run_twice(text)
            self.assertEqual((epochs(first), epochs(second)), ([1, 2], [3, 4]), saving)
            self.assertIn("eval_loss", first.reports[-1]["metrics"])
            self.assertEqual((taken["epoch"], taken["step"]), (2, 4), saving)
            self.assertEqual(len(first.checkpoints), 2 if saving == "epoch" else 1)
            self.assertIn("trainer_state.json", os.listdir(taken["taken"]))

    def test_asked_to_leave_in_an_epoch_it_saves_and_stops(self) -> None:
        worker = self.worker(stop="leave")
        text = self.TEXT.replace("ARGUMENTS", "save_strategy='no'")
        done = self.program(text, HERE)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        self.assertEqual([c["step"] for c in worker.checkpoints], [1])
        self.assertEqual(worker.checkpoints[0]["epoch"], 0)


class Missing(Case):
    def test_what_is_not_installed_is_named(self) -> None:
        done: "subprocess.CompletedProcess[str]" = self.program(
            """
            import sys
            for name in ("torch", "keras", "lightning", "transformers"):
                sys.modules[name] = None
            sys.modules["lightning.pytorch"] = sys.modules["pytorch_lightning"] = None
            import trainyard as ty
            for name in ("torch", "keras", "lightning", "transformers"):
                try:
                    getattr(ty, name)
                except ModuleNotFoundError as error:
                    print(error)
            try:
                ty.tensorflow
            except AttributeError as error:
                print(error)
            from trainyard import *
            """,
            {},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0], "trainyard.torch needs torch, which is not installed")
        self.assertEqual(len(lines), 5, lines)


if __name__ == "__main__":
    unittest.main()
