"""`trainyard.torch` with PyTorch itself: one rank, and two that meet over Gloo."""

from __future__ import annotations

import importlib.util
import socket
import unittest
from typing import Any, Dict, List

from fake_worker import PATIENCE_S, FakeWorker, wait_for
from support import Case

import trainyard as ty


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def ranks(workers: List[FakeWorker], **more: str) -> List[Dict[str, str]]:
    """What Trainyard sets for the ranks of a trial on one machine."""
    port = str(free_port())
    return [
        worker.environment(
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(len(workers)),
            OMP_NUM_THREADS="1",
            **more,
        )
        for rank, worker in enumerate(workers)
    ]


@unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
class OneRank(Case):
    def test_scalars_are_numbers(self) -> None:
        import torch

        worker = self.worker()
        ty.report(
            {
                "loss": torch.tensor(0.5, requires_grad=True),
                "half": torch.tensor([0.25], dtype=torch.bfloat16),
            },
            epoch=torch.tensor(3),
        )
        wait_for("the report", lambda: worker.reports)
        self.assertEqual(worker.reports, [{"metrics": {"loss": 0.5, "half": 0.25}, "epoch": 3}])
        with self.assertRaisesRegex(ValueError, r"of shape \(2,\), expected a single number"):
            ty.report({"loss": torch.zeros(2)})

    def test_what_prepare_leaves_as_it_is(self) -> None:
        import torch

        model = torch.nn.Linear(2, 1)
        loader = torch.utils.data.DataLoader(torch.arange(4.0), batch_size=2)
        self.assertEqual(ty.torch.init().type, "cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device("cpu")
        self.assertIs(ty.torch.prepare(model, device=device), model)
        same, ready = ty.torch.prepare(model, loader, device=device)
        self.assertIs(ty.torch.unwrap(same), model)
        self.assertIs(ready, loader)
        for wrong in (lambda: ty.torch.prepare(loader), lambda: ty.torch.prepare(model, [1])):
            with self.assertRaises(TypeError):
                wrong()

    def test_the_seed_is_the_trials(self) -> None:
        import torch

        self.worker(seed=2**40 + 7)
        ty.torch.init()
        self.assertEqual(torch.initial_seed(), 7)

    def test_ranks_that_cannot_meet_are_told_what_is_missing(self) -> None:
        self.worker(world_size=2)
        with self.assertRaisesRegex(ValueError, "one of 2 ranks.*MASTER_ADDR, MASTER_PORT"):
            ty.torch.init()

    def test_batches_come_to_the_device(self) -> None:
        import torch

        loader = torch.utils.data.DataLoader(torch.arange(4.0), batch_size=2)
        ready = ty.torch._OnDevice(loader, torch.device("meta"))
        self.assertEqual([batch.device.type for batch in ready], ["meta", "meta"])
        self.assertEqual((len(ready), ready.batch_size), (2, 2))
        moved = ty.torch._moved({"x": [torch.zeros(1), "text"]}, torch.device("meta"))
        self.assertEqual((moved["x"][0].device.type, moved["x"][1]), ("meta", "text"))


@unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
class TwoRanks(Case):
    def run_ranks(self, text: str, until: Any = None) -> Any:
        workers = []
        for rank in range(2):
            # Only rank 0's worker knows of the stop: the other must agree all the same.
            worker = FakeWorker(
                rank=rank, world_size=2, until_epoch=until if rank == 0 else None, seed=5
            )
            worker.listen()
            self.addCleanup(worker.__exit__)
            workers.append(worker)
        processes = [self.start(text, one) for one in ranks(workers)]
        ended = [process.communicate(timeout=PATIENCE_S) for process in processes]
        for process, (_, errors) in zip(processes, ended):
            self.assertEqual(process.returncode, 0, errors)
        for worker in workers:
            self.assertEqual(worker.faults, [])
        return workers, [output for output, _ in ended]

    def test_ranks_train_together_and_stop_at_the_same_step(self) -> None:
        text = """
            import torch, trainyard as ty
            from torch.utils.data import DataLoader, TensorDataset
            device = ty.torch.init()
            torch.manual_seed(ty.info().rank)   # DDP gives every rank the weights of rank 0
            x = torch.arange(16.0)[:, None]
            model = torch.nn.Linear(1, 1)
            loader = DataLoader(TensorDataset(x, 2 * x), batch_size=4, shuffle=True)
            model, loader = ty.torch.prepare(model, loader)
            optimizer = torch.optim.SGD(model.parameters(), 1e-3)
            seen = []
            for epoch in range(10):
                for a, b in loader:
                    seen.append([int(v) for v in a[:, 0]])
                    optimizer.zero_grad()
                    loss = (model(a) - b).square().mean()
                    loss.backward()
                    optimizer.step()
                ty.report({"loss": loss}, epoch=epoch + 1)
                with ty.checkpoint_dir(epoch=epoch + 1) as folder:
                    torch.save(ty.torch.unwrap(model).state_dict(), folder / "model.pt")
                if ty.should_stop():
                    break
            print(epoch, seen, [p.tolist() for p in model.parameters()], sep="|")
            """
        workers, outputs = self.run_ranks(text, until=3)
        (epoch, seen, weights), (other_epoch, other_seen, other_weights) = (
            output.strip().split("|") for output in outputs
        )
        self.assertEqual((epoch, other_epoch), ("2", "2"))
        self.assertEqual(weights, other_weights)
        mine, theirs = eval(seen), eval(other_seen)
        epochs = []
        for e in range(3):
            a = sum(mine[2 * e : 2 * e + 2], [])
            b = sum(theirs[2 * e : 2 * e + 2], [])
            # Each sample once, by one of the two.
            self.assertEqual(sorted(a + b), list(range(16)))
            epochs.append(a)
        self.assertNotEqual(epochs[0], epochs[1], "each epoch in another order")
        self.assertEqual([c["epoch"] for c in workers[0].checkpoints], [1, 2, 3])
        self.assertEqual(workers[1].checkpoints, [])

    def test_what_ranks_cannot_share_is_refused(self) -> None:
        self.run_ranks(
            """
            import torch, trainyard as ty
            from torch.utils.data import *
            ty.torch.init()
            class Stream(IterableDataset):
                def __iter__(self):
                    return iter(range(4))
            model = torch.nn.Linear(1, 1)
            data = torch.arange(4.0)
            for loader, told in [
                (DataLoader(Stream()), "iterable"),
                (DataLoader(data, sampler=SubsetRandomSampler([1])), "SubsetRandomSampler"),
                (DataLoader(data, batch_size=None), "expected shuffle"),
            ]:
                try:
                    ty.torch.prepare(model, loader)
                except ValueError as error:
                    assert told in str(error), error
                else:
                    raise AssertionError(told)
            own = DataLoader(data, sampler=torch.utils.data.DistributedSampler(data))
            assert ty.torch.prepare(model, own)[1] is own
            """
        )


if __name__ == "__main__":
    unittest.main()
