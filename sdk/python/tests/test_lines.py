"""Without a channel: lines on standard output inside Trainyard, prints outside."""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path

from support import Case

import trainyard as ty

INSIDE = {
    "TRAINYARD_JOB_ID": "job-1",
    "TRAINYARD_TRIAL_ID": "3",
    "TRAINYARD_ATTEMPT": "1",
    "TRAINYARD_PARAMS": '{"lr": 0.1}',
    "TRAINYARD_SEED": str(2**64 - 1),
    "TRAINYARD_RANK": "0",
    "TRAINYARD_WORLD_SIZE": "1",
}


class Inside(Case):
    def lines(self, text: str, **more: str) -> list:
        done = self.program(text, {**INSIDE, **more})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_who_this_process_is(self) -> None:
        os.environ.update(INSIDE, TRAINYARD_RESTORE_DIR="/r", TRAINYARD_RESTORE_EPOCH="4")
        info = ty.info()
        self.assertEqual((info.job, info.trial, info.attempt), ("job-1", 3, 1))
        self.assertEqual((info.seed, info.seed32), (2**64 - 1, 2**31 - 1))
        self.assertEqual(info.restored_from, ty.Restored(Path("/r"), 4, None))
        self.assertEqual(ty.params(), {"lr": 0.1})

    def test_variables_that_trainyard_would_not_set(self) -> None:
        for name, value in [("TRAINYARD_PARAMS", "[1]"), ("TRAINYARD_SEED", "x")]:
            os.environ.update(INSIDE)
            os.environ[name] = value
            with self.assertRaisesRegex(ValueError, f"{name} is "):
                ty.info()

    def test_reports_go_to_the_descriptor_wherever_print_goes(self) -> None:
        lines = self.lines(
            """
            import contextlib, io, math, trainyard as ty
            print("before")
            with contextlib.redirect_stdout(io.StringIO()):
                ty.report({"loss": math.inf}, epoch=0, step=10)
            ty.progress(0.5)
            ty.report({"loss": 0.5}, epoch=1)
            """
        )
        self.assertEqual(
            lines,
            [
                "before",
                '{"metrics": {"loss": "Infinity"}, "epoch": 0, "step": 10}',
                "progress 50%",
                '{"metrics": {"loss": 0.5}, "epoch": 1}',
            ],
        )

    def test_infeasible(self) -> None:
        done = self.program("import trainyard as ty; ty.infeasible('why')", INSIDE)
        self.assertEqual((done.returncode, done.stdout), (78, '{"infeasible": "why"}\n'))

    def test_rungs_are_reached_however_epochs_are_counted(self) -> None:
        text = """
            import trainyard as ty
            for epoch in range({first}, 20):
                ty.report({{"loss": 1}}, epoch={epoch})
                if ty.should_stop():
                    print(epoch)
                    break
            """
        table = [
            ("0", "epoch", {}, 2),
            ("1", "epoch", {}, 3),
            ("0", "None", {}, 2),
            ("5", "epoch", {"TRAINYARD_RESTORE_EPOCH": "5"}, 8),
            ("6", "epoch", {"TRAINYARD_RESTORE_EPOCH": "5"}, 9),
            ("0", "None", {"TRAINYARD_RESTORE_EPOCH": "5"}, 3),
        ]
        for first, epoch, more, last in table:
            if more:
                more = {**more, "TRAINYARD_RESTORE_DIR": "/r"}
            until = "9" if more else "3"
            lines = self.lines(
                text.format(first=first, epoch=epoch), TRAINYARD_UNTIL_EPOCH=until, **more
            )
            self.assertEqual(lines[-1], str(last), (first, epoch, more))

    def test_a_checkpoint_is_told_with_its_epochs_metrics(self) -> None:
        folder = self.folder / "kept"
        folder.mkdir()
        lines = self.lines(
            """
            import trainyard as ty
            with ty.checkpoint_dir() as folder:
                (folder / "model").write_text("")
            ty.report({"loss": 0.5}, epoch=2)
            with ty.checkpoint_dir(epoch=2, step=7) as folder:
                (folder / "model").write_text("")
            """,
            TRAINYARD_CHECKPOINT_DIR=str(folder),
        )
        told = json.loads(lines[-1])
        self.assertEqual((told["metrics"], told["epoch"], told["step"]), ({"loss": 0.5}, 2, 7))
        self.assertEqual(os.listdir(told["checkpoint"]), ["model"])
        self.assertEqual(len(lines), 2, lines)

    def test_a_closed_standard_output_ends_nothing(self) -> None:
        done = self.program(
            """
            import os, sys, trainyard as ty
            os.close(1)
            for _ in range(2):
                ty.report({"loss": 1})
            """,
            INSIDE,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("cannot report"), 1, done.stderr)


class Alone(Case):
    def test_every_call_works_and_prints(self) -> None:
        (self.folder / "plot.png").write_text("")
        with self.printed() as output:
            self.assertEqual(ty.params({"lr": 0.1}), {"lr": 0.1})
            self.assertEqual(ty.info(), ty.Info())
            self.assertIsNone(ty.latest_checkpoint())
            ty.report({"loss": 1 / 3, "n": 2}, epoch=1, step=10)
            ty.progress(0.4)
            ty.log_artifact("plot.png")
            self.assertFalse(ty.should_stop())
            with ty.checkpoint_dir(epoch=1) as folder:
                (folder / "model").write_text("1")
            with self.assertRaises(ty.Infeasible):
                ty.infeasible("why")
        kept = self.folder / "trainyard-checkpoints" / "epoch-1"
        self.assertEqual(
            output.getvalue().splitlines(),
            [
                "[trainyard] epoch 1 step 10: loss 0.333333, n 2",
                "[trainyard] progress 40%",
                f"[trainyard] artifact plot.png: {self.folder.resolve()}/plot.png",
                f"[trainyard] epoch 1: checkpoint {kept.resolve()}",
                "[trainyard] infeasible: why",
            ],
        )
        self.assertEqual(self.warnings, [])

    def test_the_newest_checkpoint_is_kept(self) -> None:
        with self.printed():
            for epoch in (1, 2, 2):
                with ty.checkpoint_dir(epoch=epoch) as folder:
                    (folder / "model").write_text(str(epoch))
        kept = self.folder / "trainyard-checkpoints"
        self.assertEqual(os.listdir(kept), ["epoch-2"])
        self.assertEqual(ty.latest_checkpoint(), (kept / "epoch-2").resolve())

    def test_the_rank_of_a_launcher_counts(self) -> None:
        os.environ["RANK"] = "1"
        with self.printed() as output:
            ty.report({"loss": 1})
            with ty.checkpoint_dir() as folder:
                (folder / "model").write_text("")
        self.assertEqual(output.getvalue(), "")
        self.assertEqual(os.listdir("."), [])


if __name__ == "__main__":
    unittest.main()
