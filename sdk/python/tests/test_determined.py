"""What scripts of Determined's core API call."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any, List

from fake_worker import wait_for
from support import Case

import trainyard.determined as det
from trainyard import _session


class Core(Case):
    def test_training_is_reported_with_its_validation(self) -> None:
        worker = self.worker(params={"lr": 0.1}, seed=2**40 + 3)
        info = det.get_cluster_info()
        assert info is not None
        self.assertEqual((info.trial.hparams, info.trial.trial_id), ({"lr": 0.1}, 3))
        self.assertEqual((info.trial.trial_seed, info.latest_checkpoint), (3, None))
        with det.core.init() as context:
            context.train.report_training_metrics(5, {"loss": 2.0})
            context.train.report_training_metrics(10, {"loss": 1.0, "lr": 0.1})
            context.train.report_metrics("system", 10, {"watts": 300})
            context.train.report_validation_metrics(10, {"loss": 1.5})
            context.train.report_training_metrics(15, {"loss": 0.5})
            context.preempt.should_preempt()
        det.core.init().preempt.should_preempt()
        first, second = worker.reports
        self.assertEqual(
            first,
            {
                "metrics": {"training/loss": 1.0, "lr": 0.1, "system/watts": 300, "loss": 1.5},
                "step": 10,
            },
        )
        self.assertEqual(second, {"metrics": {"loss": 0.5}, "step": 15})

    def test_a_checkpoint_is_stored_with_its_metadata_and_restored(self) -> None:
        worker = self.worker()
        context = det.core.init(tensorboard_mode="AUTO")
        self.assertIn("tensorboard_mode have no effect", self.warnings[0])
        with context.checkpoint.store_path({"steps_completed": 7, "by": "me"}) as (path, its_id):
            (path / "model").write_text("weights")
            self.assertTrue(its_id)
        other = self.folder / "other"
        other.mkdir()
        (other / "model").write_text("more")
        context.checkpoint.upload(other, {"steps_completed": 8})
        self.assertEqual([c["step"] for c in worker.checkpoints], [7, 8])
        self.assertEqual((Path(worker.checkpoints[1]["taken"]) / "model").read_text(), "more")
        kept = worker.checkpoints[0]["taken"]
        worker = self.worker(restore={"path": kept, "epoch": 1, "step": 7})
        _session.end()
        info = det.get_cluster_info()
        assert info is not None and info.latest_checkpoint is not None
        with context.checkpoint.restore_path(info.latest_checkpoint) as path:
            self.assertEqual((path / "model").read_text(), "weights")
        metadata = context.checkpoint.get_metadata(info.latest_checkpoint)
        self.assertEqual(metadata, {"steps_completed": 7, "by": "me"})
        context.checkpoint.download(info.latest_checkpoint, self.folder / "copy")
        found = json.loads((self.folder / "copy" / "metadata.json").read_text())
        self.assertEqual(found, metadata)

    def test_a_stop_and_the_end_of_an_operation(self) -> None:
        worker = self.worker(until_epoch=3, stop="leave")
        context = det.core.init()
        (operation,) = context.searcher.operations()
        operation.report_progress(2)
        operation.report_completed(0.5)
        self.assertEqual(operation.length, 3)
        self.assertTrue(context.preempt.should_preempt())
        self.assertEqual(context.distributed.broadcast("x"), "x")
        self.assertEqual((context.distributed.rank, context.distributed.size), (0, 1))
        wait_for("the progress", lambda: worker.progress == [2 / 3])

    def test_what_is_not_there_says_so(self) -> None:
        self.assertIsNone(det.get_cluster_info())
        context = det.core.init()
        table: List[Any] = [
            (lambda: det.pytorch, AttributeError, "trainyard.torch"),
            (lambda: det.nonsense, AttributeError, "no attribute"),
            (lambda: next(context.searcher.operations()), NotImplementedError, "no rung"),
            (lambda: context.checkpoint.delete("x"), NotImplementedError, "checkpoint_storage"),
            (lambda: context.checkpoint.get_metadata("x"), ValueError, "storage_id is 'x'"),
            (
                lambda: context.checkpoint.upload(".", {"steps_completed": 1}, shard=True),
                ValueError,
                "shard is True",
            ),
            (lambda: context.checkpoint.upload(".", {}), ValueError, "expected steps_completed"),
            (lambda: context.train.report_training_metrics(-1, {"a": 1}), ValueError, "is -1"),
        ]
        for call, kind, told in table:
            with self.assertRaises(kind) as caught:
                call()
            self.assertIn(told, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
