"""PyTorch: the group of ranks that Trainyard has started, and what each of them trains on.

    device = ty.torch.init()
    model, loader = ty.torch.prepare(model, loader)

Outside Trainyard, and with a single rank, both do what is left to do: choose a device, move the model.
"""

from __future__ import annotations

import atexit
import os
from typing import Any, Iterator, List, Optional, Tuple

import torch
import torch.distributed
import torch.utils.data
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from . import _leaving, _session


def init(backend: Optional[str] = None) -> torch.device:
    """Joins the group of this trial's ranks, seeds PyTorch, and says which device is this rank's.

    Does nothing of it twice. The group is the one that `MASTER_ADDR`, `MASTER_PORT`, `RANK` and `WORLD_SIZE`
    name, as Trainyard and torchrun set them; a world of one rank makes none. Inside Trainyard `torch`'s generators get the trial's
    `seed32` on every rank.

    Args:
        backend: of `torch.distributed`; by default NCCL where there is a GPU, else Gloo.

    Raises:
        ValueError: there are several ranks, but not the variables by which they meet.
    """
    device = _device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _join(backend or ("nccl" if device.type == "cuda" else "gloo"))
    session = _session.current()
    if session.inside:
        torch.manual_seed(session.info.seed32)
    return device


def _device() -> torch.device:
    if torch.cuda.is_available():
        # Trainyard shows a worker's ranks their GPUs in the order of LOCAL_RANK, or each its own alone.
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local if local < torch.cuda.device_count() else 0)
    return torch.device("cpu")


def _join(backend: str) -> None:
    dist = torch.distributed
    if not dist.is_available() or dist.is_initialized():
        return
    world = int(os.environ.get("WORLD_SIZE") or _session.current().info.world_size)
    if world <= 1:
        return
    missing = [
        name
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
        if not os.environ.get(name)
    ]
    if missing:
        raise ValueError(
            f"this is one of {world} ranks, but the environment has no {', '.join(missing)}: "
            "expected the variables that Trainyard or torchrun sets"
        )
    dist.init_process_group(backend)
    atexit.register(_leaving.destroy_group)


def prepare(
    model: torch.nn.Module, *loaders: "DataLoader[Any]", device: Optional[torch.device] = None
) -> Any:
    """A model and its loaders, made ready for this rank.

    The model is moved to `device`; with several ranks it becomes a `DistributedDataParallel`. Each loader gives
    this rank its part of every epoch (its `batch_size` is that of one rank), in another order each epoch
    if it shuffled, and its batches on `device`.

    Args:
        model: a module.
        loaders: `DataLoader`s over map-style data sets, with a sequential or random sampler or a
            `DistributedSampler` (which is kept).
        device: by default the one that `init` gives.

    Returns:
        The model; with loaders a tuple of model and loaders, in the order given.

    Raises:
        TypeError: `model` is no module, or a loader no `DataLoader`.
        ValueError: several ranks cannot share a loader: an iterable data set, a sampler of one's own.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is of type {type(model).__name__}, expected a torch.nn.Module")
    device = device if device is not None else _device()
    ready: List[Any] = [_loader(loader, device) for loader in loaders]
    model = model.to(device)
    if _world() > 1 and any(p.requires_grad for p in model.parameters()):
        ids = [device.index] if device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids)
    return (model, *ready) if ready else model


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The module that `prepare` was given: its `state_dict` has the same names with one rank and with many."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(inner, torch.nn.Module)
    return inner


def _world() -> int:
    dist = torch.distributed
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Sampler(DistributedSampler):  # type: ignore[type-arg]
    """Shuffles anew for each pass without being told its number, from that of the restored epoch on."""

    def __iter__(self) -> Iterator[Any]:
        order: Iterator[Any] = super().__iter__()
        self.epoch += 1
        return order


def _loader(loader: Any, device: torch.device) -> Any:
    if not isinstance(loader, DataLoader):
        raise TypeError(f"a loader is of type {type(loader).__name__}, expected a DataLoader")
    if _world() > 1 and not isinstance(loader.sampler, DistributedSampler):
        loader = _shared(loader)
    return loader if device.type == "cpu" else _OnDevice(loader, device)


def _shared(loader: "DataLoader[Any]") -> "DataLoader[Any]":
    data = torch.utils.data
    if isinstance(loader.dataset, data.IterableDataset):
        raise ValueError(
            "the loader's dataset is iterable, which several ranks cannot share: expected a map-style one, "
            "or a loader of each rank's own part that is not given to prepare"
        )
    sampler = loader.sampler
    plain = isinstance(sampler, (data.SequentialSampler, data.RandomSampler))
    if (
        loader.batch_sampler is None
        or type(loader.batch_sampler) is not data.BatchSampler
        or not plain
    ):
        raise ValueError(
            f"the loader's sampler is a {type(sampler).__name__}, expected shuffle=True or False "
            "with a batch_size, or a DistributedSampler"
        )
    session = _session.current()
    shared = _Sampler(
        loader.dataset,
        shuffle=isinstance(sampler, data.RandomSampler),
        seed=session.info.seed32,
        drop_last=loader.drop_last,
    )
    restored = session.info.restored_from
    shared.set_epoch((restored.epoch or 0) if restored else 0)
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=shared,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


class _OnDevice:
    """A loader whose batches are on a device. Everything else is the loader's own."""

    def __init__(self, loader: "DataLoader[Any]", device: torch.device) -> None:
        self._loader = loader
        self._device = device

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield _moved(batch, self._device)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, dict):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_moved(value, device) for value in batch)
    # From pinned memory the copy goes on beside the computation.
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch


__all__: Tuple[str, ...] = ("init", "prepare", "unwrap")
