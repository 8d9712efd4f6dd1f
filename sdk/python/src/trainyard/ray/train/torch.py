"""`ray.train.torch`: the model and the loaders of a rank, and a function as a training run."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Union

import torch

from ... import torch as _torch
from ..._settings import without_effect
from .._configs import CheckpointConfig, RunConfig, ScalingConfig, mode
from .._launch import launch
from .._results import Result


def get_device() -> torch.device:
    """This rank's device."""
    return _torch.init()


def prepare_model(
    model: torch.nn.Module,
    move_to_device: Union[bool, torch.device] = True,
    parallel_strategy: Optional[str] = "ddp",
    parallel_strategy_kwargs: Optional[Mapping[str, Any]] = None,
) -> torch.nn.Module:
    """As `trainyard.torch.prepare`.

    Raises:
        ValueError: it is to stay where it is, or another strategy than DDP.
    """
    if move_to_device is False or parallel_strategy != "ddp":
        raise ValueError(
            f"move_to_device is {move_to_device!r}, parallel_strategy {parallel_strategy!r}, expected "
            "True and 'ddp': wrap the model yourself"
        )
    without_effect("prepare_model", dict(parallel_strategy_kwargs or {}))
    device = _torch.init()
    place = move_to_device if isinstance(move_to_device, torch.device) else device
    ready: torch.nn.Module = _torch.prepare(model, device=place)
    return ready


def prepare_data_loader(
    data_loader: "torch.utils.data.DataLoader[Any]",
    add_dist_sampler: bool = True,
    move_to_device: bool = True,
    auto_transfer: bool = True,
) -> Any:
    """As `trainyard.torch.prepare` of a loader.

    Raises:
        ValueError: it is to be left as it is in part.
    """
    if not add_dist_sampler or not move_to_device:
        raise ValueError("add_dist_sampler and move_to_device are expected to be True")
    device = _torch.init()
    return _torch.prepare(torch.nn.Identity(), data_loader, device=device)[1]


class TorchTrainer:
    """A training run: a job of one trial, whose ranks call `train_loop_per_worker`.

    Which checkpoint is the best has to be known beforehand:
    `RunConfig(checkpoint_config=CheckpointConfig(checkpoint_score_attribute="loss", checkpoint_score_order="min"))`.

    Raises:
        ValueError: it is not.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: Optional[Mapping[str, Any]] = None,
        scaling_config: Optional[ScalingConfig] = None,
        run_config: Optional[RunConfig] = None,
        **options: Any,
    ) -> None:
        self._function = train_loop_per_worker
        self._config: Dict[str, Any] = dict(train_loop_config or {})
        self._scaling = scaling_config or ScalingConfig()
        self._run = run_config or RunConfig()
        kept = self._run.checkpoint_config or CheckpointConfig()
        if kept.checkpoint_score_attribute is None:
            raise ValueError(
                "checkpoint_score_attribute of the RunConfig's CheckpointConfig is None, expected the metric by "
                "which the run is judged"
            )
        self._objective = {kept.checkpoint_score_attribute: mode(kept.checkpoint_score_order)}
        without_effect("TorchTrainer", options)

    def fit(self) -> Result:
        """Runs it to its end.

        Raises:
            JobFailed: it failed.
        """
        grid = launch(
            self._function,
            self._config,
            objectives=self._objective,
            run=self._run,
            flags=["--torch"],
            n_trials=1,
            resources=self._scaling.resources(),
        )
        return grid[0]


__all__ = ["TorchTrainer", "get_device", "prepare_data_loader", "prepare_model"]
