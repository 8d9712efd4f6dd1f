"""Transformers: a callback that reports each epoch, hands the Trainer's checkpoints over, and stops."""

from __future__ import annotations

import os
import shutil
from typing import Any, Dict, Optional

from transformers import TrainerCallback

from . import _ranks, _run

# With several ranks each question is a broadcast.
STEPS_BETWEEN_QUESTIONS = 10
# How far from a whole number an epoch's end may lie: it is a sum of fractions.
ROUNDING = 1e-6


def latest_checkpoint() -> Optional[str]:
    """For `trainer.train(resume_from_checkpoint=...)`: the folder that this attempt goes on from, or `None`."""
    folder = _run.latest_checkpoint()
    return None if folder is None else str(folder)


class Callback(TrainerCallback):
    """`Trainer(callbacks=[ty.transformers.Callback()])`.

    What the Trainer logs is reported at the end of each epoch (counted from 1), evaluation included; of several
    logs in between the newest values count. Checkpoints that it saves (`save_strategy`) become Trainyard's,
    at no cost where files can be linked. Before it stops the Trainer saves, whatever the strategy. With `max_steps` the last, incomplete epoch is reported as one.
    """

    def __init__(self) -> None:
        self._logged: Dict[str, Any] = {}
        self._saved_step = -1

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Optional[Dict[str, Any]] = None, **_: Any
    ) -> None:
        # What `train` logs at its very end is about the run, and no epoch's.
        if not logs or "train_runtime" in logs:
            return
        self._logged.update(
            (name, value)
            for name, value in logs.items()
            if name != "epoch" and isinstance(value, (int, float))
        )
        if _is_whole(state.epoch):
            self._report(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The evaluation follows, and is merged into this epoch.
        self._report(state)
        if not control.should_evaluate:
            self._ask(state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._ask(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        alone = _ranks.distributed() is None
        if alone or state.global_step % STEPS_BETWEEN_QUESTIONS == 0:
            self._ask(state, control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
        epoch = int(state.epoch + ROUNDING)
        with _run.checkpoint_dir(epoch=epoch, step=state.global_step) as folder:
            if state.is_world_process_zero:
                shutil.copytree(saved, folder, copy_function=_link, dirs_exist_ok=True)
        self._saved_step = state.global_step

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._report(state)

    def _report(self, state: Any) -> None:
        if self._logged:
            epoch = max(1, -int(-(state.epoch - ROUNDING) // 1))
            _run.report(self._logged, epoch=epoch, step=state.global_step)
            self._logged = {}

    def _ask(self, state: Any, control: Any) -> None:
        if _run.should_stop():
            control.should_training_stop = True
            # Whatever `save_strategy` says: what goes on later goes on from here.
            if self._saved_step != state.global_step:
                control.should_save = True


def _is_whole(epoch: Optional[float]) -> bool:
    return epoch is not None and epoch > 0 and abs(epoch - round(epoch)) < ROUNDING


def _link(source: str, target: str) -> None:
    """The same file under another name; the Trainer never changes one that it has written."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
