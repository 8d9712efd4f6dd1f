"""Checkpoints exist whole or not at all, and are Trainyard's once their block is left."""

from __future__ import annotations

import os
import threading
import unittest
from pathlib import Path

from fake_worker import wait_for
from support import Case

import trainyard as ty


def files(folder: str) -> dict:
    return {path.name: path.read_text() for path in Path(folder).iterdir()}


class Checkpoints(Case):
    def test_a_block_that_is_left_is_moved_away_whole(self) -> None:
        worker = self.worker()
        with ty.checkpoint_dir(epoch=3, step=300) as folder:
            (folder / "model").write_text("weights")
            self.assertEqual(worker.checkpoints, [])
            self.assertEqual(folder.parent, Path(worker.checkpoint_dir))
        self.assertEqual(len(worker.checkpoints), 1)
        taken = worker.checkpoints[0]
        self.assertEqual((taken["epoch"], taken["step"], taken["moved"]), (3, 300, True))
        self.assertEqual(files(taken["taken"]), {"model": "weights"})
        self.assertEqual(os.listdir(worker.checkpoint_dir), [])

    def test_an_exception_discards_it(self) -> None:
        worker = self.worker()
        with self.assertRaises(KeyError):
            with ty.checkpoint_dir(epoch=1) as folder:
                (folder / "half").write_text("")
                raise KeyError
        self.assertEqual(worker.checkpoints, [])
        self.assertEqual(os.listdir(worker.checkpoint_dir), [])

    def test_an_empty_one_is_none(self) -> None:
        worker = self.worker()
        with ty.checkpoint_dir(epoch=1):
            pass
        self.assertEqual(worker.checkpoints, [])
        self.assertIn("nothing was written", self.warnings[0])

    def test_the_same_epoch_twice(self) -> None:
        worker = self.worker()
        for text in ("a", "b"):
            with ty.checkpoint_dir(epoch=1) as folder:
                (folder / "model").write_text(text)
        self.assertEqual([files(c["taken"])["model"] for c in worker.checkpoints], ["a", "b"])

    def test_a_third_waits_until_one_is_uploaded(self) -> None:
        worker = self.worker()
        worker.slow_upload = True
        saved = []

        def save() -> None:
            for epoch in range(3):
                with ty.checkpoint_dir(epoch=epoch) as folder:
                    (folder / "model").write_text("")
                saved.append(epoch)

        thread = threading.Thread(target=save)
        thread.start()
        wait_for("two", lambda: saved == [0, 1])
        self.assertTrue(thread.is_alive())
        worker.uploaded()
        thread.join()
        self.assertEqual(saved, [0, 1, 2])

    def test_with_a_report_elsewhere_it_is_copied(self) -> None:
        worker = self.worker()
        (self.folder / "mine").mkdir()
        (self.folder / "mine" / "model").write_text("weights")
        ty.report({"loss": 1}, epoch=2, checkpoint=self.folder / "mine")
        self.assertFalse(worker.checkpoints[0]["moved"])
        self.assertEqual(files(worker.checkpoints[0]["taken"]), {"model": "weights"})
        self.assertTrue((self.folder / "mine" / "model").exists())
        ty.report({"loss": 1}, epoch=3, checkpoint="mine/model")
        self.assertEqual(Path(worker.checkpoints[1]["taken"]).read_text(), "weights")

    def test_a_report_inside_the_block_hands_it_over(self) -> None:
        worker = self.worker()
        with ty.checkpoint_dir() as folder:
            (folder / "model").write_text("weights")
            ty.report({"loss": 1}, epoch=2, checkpoint=folder)
        self.assertEqual(len(worker.checkpoints), 1)
        self.assertEqual(worker.checkpoints[0]["epoch"], 2)
        self.assertEqual(self.warnings, [])

    def test_a_refused_one_is_told_and_removed(self) -> None:
        worker = self.worker()
        worker.refuse_all = "the folder holds a device"
        with ty.checkpoint_dir(epoch=1) as folder:
            (folder / "model").write_text("")
        self.assertIn("a checkpoint was refused: the folder holds a device", self.warnings[0])
        self.assertEqual(os.listdir(worker.checkpoint_dir), [])

    def test_other_ranks_write_into_a_folder_that_is_discarded(self) -> None:
        worker = self.worker(rank=1, world_size=2)
        with ty.checkpoint_dir(epoch=1) as folder:
            (folder / "model").write_text("")
        self.assertFalse(folder.exists())
        self.assertEqual(worker.checkpoints, [])

    def test_a_connection_lost_at_the_answer_is_asked_again(self) -> None:
        worker = self.worker()
        worker.slow_upload = True
        for epoch in (0, 1):
            with ty.checkpoint_dir(epoch=epoch) as folder:
                (folder / "model").write_text("")

        def save() -> None:
            with ty.checkpoint_dir(epoch=2) as folder:
                (folder / "model").write_text("")

        thread = threading.Thread(target=save)
        thread.start()
        wait_for("the third", lambda: len(os.listdir(worker.checkpoint_dir)) == 1)
        worker.drop()
        # Both the lost request and its repetition are carried out; the folder moves once.
        worker.uploaded()
        worker.uploaded()
        thread.join()
        self.assertEqual([c["epoch"] for c in worker.checkpoints], [0, 1, 2])
        self.assertEqual(self.warnings, [])

    def test_where_nothing_is_kept_the_program_goes_on(self) -> None:
        os.environ["TRAINYARD_JOB_ID"] = "job-1"
        with ty.checkpoint_dir(epoch=1) as folder:
            (folder / "model").write_text("")
        self.assertFalse(folder.exists())
        self.assertIn("keeps no checkpoints", self.warnings[0])


if __name__ == "__main__":
    unittest.main()
