"""Lightning: a callback that reports each epoch, makes its checkpoint, and stops; the checkpoint to go on from."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Dict, List, Optional, Sequence, Union

from . import _run


def _callbacks() -> Any:
    """The module of Lightning that the program uses: classes of its two names are not each other's."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    if names[1] in sys.modules and names[0] not in sys.modules:
        names.reverse()
    for name in names:
        try:
            return importlib.import_module(f"{name}.callbacks")
        except ModuleNotFoundError as error:
            if error.name not in ("lightning", name):
                raise
    raise ModuleNotFoundError("No module named 'lightning'", name="lightning")


_Base: Any = _callbacks().Callback

FILE = "lightning.ckpt"


def latest_checkpoint() -> Optional[str]:
    """For `trainer.fit(..., ckpt_path=...)`: the file that this attempt goes on from, or `None`."""
    folder = _run.latest_checkpoint()
    return None if folder is None else str(folder / FILE)


class Callback(_Base):
    """`Trainer(callbacks=[ty.lightning.Callback()])`.

    After each training epoch (and its validation) what was logged is reported with Lightning's epoch (from 0) and
    global step, then the trainer's state is saved, then training stops if it is to, on every rank.

    Args:
        monitor: name or names of the metrics to report; by default all that were logged.
        checkpoint: whether to save checkpoints.

    Raises:
        TypeError: `monitor` is neither text nor a sequence of texts.
        ValueError: in `fit`: a metric of `monitor` was not logged.
    """

    def __init__(
        self, monitor: Union[str, Sequence[str], None] = None, *, checkpoint: bool = True
    ) -> None:
        super().__init__()
        names = [monitor] if isinstance(monitor, str) else monitor
        if names is not None and not (
            isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        ):
            raise TypeError(
                f"monitor is {monitor!r:.80} ({type(monitor).__name__}), "
                "expected a metric's name or a list of names"
            )
        self._monitor: Optional[List[str]] = None if names is None else list(names)
        self._checkpoint = checkpoint

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        epoch, step = trainer.current_epoch, trainer.global_step
        metrics = self._chosen(trainer.callback_metrics)
        if metrics:
            _run.report(metrics, epoch=epoch, step=step)
        if self._checkpoint:
            # On every rank: saving is a meeting of all of them.
            with _run.checkpoint_dir(epoch=epoch, step=step) as folder:
                trainer.save_checkpoint(folder / FILE)
        if _run.should_stop():
            trainer.should_stop = True

    def _chosen(self, logged: Dict[str, Any]) -> Dict[str, Any]:
        if self._monitor is None:
            return dict(logged)
        for name in self._monitor:
            if name not in logged:
                raise ValueError(
                    f"monitor is {name!r}, which was not logged; there are {', '.join(map(repr, logged))}"
                )
        return {name: logged[name] for name in self._monitor}
