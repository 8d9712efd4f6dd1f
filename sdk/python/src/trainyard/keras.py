"""Keras 3: a callback that reports each epoch, makes its checkpoint, goes on from one, and stops."""

from __future__ import annotations

from typing import Any, Dict, Optional

import keras

from . import _run

WEIGHTS = "latest.weights.h5"


class Callback(keras.callbacks.Callback):
    """`model.fit(..., callbacks=[ty.keras.Callback()])`.

    After each epoch its metrics are reported, then weights and optimizer are saved, then training stops if it is
    to. An attempt that goes on from a checkpoint begins with the epoch after it; the model must be
    built before `fit`.

    Args:
        checkpoint: whether to save (and to go on from) checkpoints.

    Raises:
        ValueError: in `fit`: there is a checkpoint to go on from, but the model is not built.
    """

    def __init__(self, *, checkpoint: bool = True) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        folder = _run.latest_checkpoint() if self._checkpoint else None
        restored = _run.info().restored_from
        if folder is None or restored is None or not (folder / WEIGHTS).exists():
            return
        model = self.model
        if not model.built:
            raise ValueError(
                f"the model is not built, expected one that is before fit, to go on from {folder}: "
                "give it an Input"
            )
        if model.optimizer is not None and not model.optimizer.built:
            # Without its variables there would be nowhere to load them to.
            model.optimizer.build(model.trainable_variables)
        model.load_weights(folder / WEIGHTS)
        # As Keras' own BackupAndRestore says where `fit` is to begin.
        model._initial_epoch = int((folder / "epoch").read_text())

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        if logs:
            _run.report(logs, epoch=epoch)
        if self._checkpoint:
            with _run.checkpoint_dir(epoch=epoch) as folder:
                self.model.save_weights(folder / WEIGHTS)
                (folder / "epoch").write_text(str(epoch + 1))
        if _run.should_stop():
            self.model.stop_training = True
