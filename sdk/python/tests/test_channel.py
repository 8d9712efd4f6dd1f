"""The channel, against a worker that is strict to its protocol."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import unittest
from pathlib import Path

from fake_worker import wait_for
from support import Case

import trainyard as ty
from trainyard import _channel, _session


class Speaking(Case):
    def test_who_this_process_is(self) -> None:
        self.worker(
            params={"lr": 0.1, "model.width": 3},
            trial_id=7,
            attempt=2,
            until_epoch=9,
            restore={"path": "/some/where", "epoch": 3, "step": 300},
        )
        info = ty.info()
        self.assertEqual(
            (info.job, info.trial, info.attempt, info.rank, info.world_size),
            ("job-1", 7, 2, 0, 1),
        )
        self.assertEqual((info.seed, info.seed32, info.until_epoch), (2**63 + 5, 5, 9))
        self.assertEqual(info.restored_from, ty.Restored(Path("/some/where"), 3, 300))
        self.assertEqual(ty.latest_checkpoint(), Path("/some/where"))
        self.assertEqual(
            ty.params({"lr": 1, "momentum": 0.9}),
            {"lr": 0.1, "model.width": 3, "momentum": 0.9},
        )
        ty.params()["lr"] = 5
        self.assertEqual(ty.params()["lr"], 0.1)

    def test_defaults_that_are_no_hyperparameters_are_told_once(self) -> None:
        self.worker(
            params={"learning_rate": 0.1},
            hyperparameters=["learning_rate", "momentum", "model.width"],
        )
        defaults = {"learning_rat": 1, "momentum": 0.9, "model.width": 8, "batch": 32}
        for _ in range(2):
            found = ty.params(defaults)
        self.assertEqual((found["learning_rate"], found["learning_rat"]), (0.1, 1))
        self.assertEqual(len(self.warnings), 1)
        for part in (
            "'learning_rat'; did you mean 'learning_rate', 'batch' (it has",
            "learning_rate, momentum, model.width)",
        ):
            self.assertIn(part, self.warnings[0])
        self.assertNotIn("'momentum'", self.warnings[0])
        many = {f"constant_{number}": number for number in range(20)}
        ty.params(many)
        self.assertIn("and 12 more", self.warnings[1])

    def test_without_the_jobs_names_nothing_is_said_of_defaults(self) -> None:
        self.worker(params={"lr": 0.1})
        self.assertEqual(ty.params({"lr2": 1}), {"lr": 0.1, "lr2": 1})
        self.assertEqual(self.warnings, [])

    def test_reports_arrive_with_what_json_cannot_hold(self) -> None:
        worker = self.worker()
        ty.report({"loss": math.nan, "top": math.inf, "low": -math.inf, "n": 3})
        ty.report({"loss": 0.5}, epoch=3, step=300)
        wait_for("reports", lambda: len(worker.reports) == 2)
        first = worker.reports[0]["metrics"]
        self.assertTrue(math.isnan(first["loss"]))
        self.assertEqual((first["top"], first["low"], first["n"]), (math.inf, -math.inf, 3))
        self.assertEqual(worker.reports[1], {"metrics": {"loss": 0.5}, "epoch": 3, "step": 300})
        self.assertEqual(self.warnings, [])

    def test_wrong_arguments_raise_and_say_nothing(self) -> None:
        worker = self.worker()
        for wrong in (
            lambda: ty.report({"loss": "x"}),
            lambda: ty.report({"loss": 1}, epoch=1.5),
            lambda: ty.report({"loss": 1}, checkpoint=3),
            lambda: ty.report({"loss": 1}, checkpoint="nowhere"),
            lambda: ty.progress(2),
            lambda: ty.params(3),
            lambda: ty.log_artifact("nowhere"),
            lambda: ty.infeasible(3),
        ):
            with self.assertRaises((TypeError, ValueError)):
                wrong()
        self.assertFalse(ty.should_stop())
        self.assertEqual((worker.reports, worker.infeasible), ([], None))

    def test_a_message_longer_than_a_line_is_the_programs_mistake(self) -> None:
        worker = self.worker()
        with self.assertRaisesRegex(ValueError, "at most 1048576"):
            ty.log_artifact(".", name="n" * 2**20)
        ty.report({"loss": 1})
        wait_for("the report", lambda: worker.reports)

    def test_a_pushed_stop_is_known_without_a_question(self) -> None:
        worker = self.worker()
        self.assertFalse(ty.should_stop())
        worker.push_stop("leave")
        wait_for("the stop", ty.should_stop)
        self.assertEqual(worker.questions, 0)

    def test_a_stop_becomes_more_urgent_never_less(self) -> None:
        worker = self.worker(stop="leave")
        session = _session.current()
        self.assertEqual(session.stop(), "leave")
        worker.push_stop("rung")
        worker.push_stop("cancel")
        wait_for("cancel", lambda: session.stop() == "cancel")
        worker.push_stop("rung")
        ty.log_artifact(".")  # Its answer comes behind the push.
        self.assertEqual(session.stop(), "cancel")

    def test_the_rung_is_known_right_after_its_report(self) -> None:
        worker = self.worker(until_epoch=3)
        epochs = []
        for epoch in range(1, 10):
            ty.report({"loss": 1 / epoch}, epoch=epoch)
            epochs.append(epoch)
            if ty.should_stop():
                break
        self.assertEqual(epochs, [1, 2, 3])
        # Asked after each report only, not at every step.
        self.assertLessEqual(worker.questions, 3)
        for _ in range(1000):
            ty.should_stop()
        self.assertLessEqual(worker.questions, 3)

    def test_infeasible_ends_the_program_with_its_status(self) -> None:
        worker = self.worker()
        with self.assertRaises(SystemExit) as caught:
            ty.infeasible("7 heads do not divide 64")
        self.assertEqual(caught.exception.code, 78)
        self.assertIn("7 heads", str(caught.exception))
        wait_for("the word", lambda: worker.infeasible == "7 heads do not divide 64")

    def test_progress_is_passed_on_rarely(self) -> None:
        worker = self.worker()
        for i in range(1000):
            ty.progress(i / 1000)
        ty.report({"loss": 1})
        wait_for("the report", lambda: worker.reports)
        self.assertLess(len(worker.progress), 100)
        self.assertEqual(worker.progress[0], 0.0)

    def test_a_refusal_is_told_once_and_ends_nothing(self) -> None:
        worker = self.worker()
        worker.refuse_all = 'metrics.loss is "x", expected a number'
        for _ in range(3):
            ty.report({"loss": 1})
            ty.should_stop()
        told = [text for text in self.warnings if "metrics.loss" in text]
        self.assertEqual(len(told), 2, self.warnings)  # of a report, and of the question

    def test_artifacts_are_copied_under_their_names(self) -> None:
        worker = self.worker()
        plot = self.folder / "plot.png"
        for text in ("one", "two"):
            plot.write_text(text)
            ty.log_artifact("plot.png")
        plot.write_text("changed since")
        (self.folder / "report").mkdir()
        (self.folder / "report" / "a.txt").write_text("a")
        ty.log_artifact(self.folder / "report", name="reports/first")
        self.assertEqual(sorted(worker.artifacts), ["plot.png", "reports/first"])
        self.assertEqual(Path(worker.artifacts["plot.png"]).read_text(), "two")
        kept = Path(worker.artifacts["reports/first"]) / "a.txt"
        self.assertEqual(kept.read_text(), "a")
        self.assertEqual(self.warnings, [])

    def test_a_refused_artifact_is_told_and_ends_nothing(self) -> None:
        worker = self.worker()
        (self.folder / "plot.png").write_text("png")
        ty.log_artifact("plot.png", name="../plot.png")
        self.assertIn("an artifact was refused: name is '../plot.png'", self.warnings[0])
        self.assertEqual(worker.artifacts, {})

    def test_ranks_other_than_0_are_heard_as_a_sign_of_life(self) -> None:
        worker = self.worker(rank=1, world_size=2)
        ty.report({"loss": 1}, epoch=1, checkpoint="only rank 0 has it")
        wait_for("the report", lambda: worker.reports)
        self.assertNotIn("checkpoint", worker.reports[0])
        with self.assertRaises(SystemExit):
            ty.infeasible("no")
        self.assertFalse(ty.should_stop())
        self.assertIsNone(worker.infeasible)

    def test_what_a_launcher_starts_does_not_speak_for_rank_0(self) -> None:
        worker = self.worker()
        os.environ["RANK"] = "1"
        ty.report({"loss": 1})
        self.assertFalse(ty.should_stop())
        self.assertEqual(worker.reports, [])


class Losing(Case):
    def test_a_lost_connection_is_made_anew_and_the_report_arrives(self) -> None:
        worker = self.worker()
        ty.report({"loss": 1}, epoch=1)
        wait_for("the first", lambda: len(worker.reports) == 1)
        worker.drop()
        ty.report({"loss": 0.5}, epoch=2)
        wait_for("the second", lambda: len(worker.reports) == 2)
        self.assertEqual(worker.hellos, 2)
        self.assertEqual(self.warnings, [])

    def test_a_stop_is_learnt_from_the_second_welcome(self) -> None:
        worker = self.worker()
        self.assertFalse(ty.should_stop())
        worker.drop()
        worker.welcome["stop"] = "cancel"
        self.assertTrue(ty.should_stop())

    def test_a_channel_lost_for_good_becomes_lines_with_one_warning(self) -> None:
        worker = self.worker()
        done = self.program(
            """
            import sys, trainyard as ty
            ty.report({"loss": 1}, epoch=1)
            print("said", flush=True)
            sys.stdin.readline()
            for epoch in (2, 3):
                ty.report({"loss": float("nan")}, epoch=epoch)
                assert not ty.should_stop()
            """,
            {},
            stdin=_closing_when(self, worker),
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            done.stdout.splitlines(),
            [
                "said",
                '{"metrics": {"loss": "NaN"}, "epoch": 2}',
                '{"metrics": {"loss": "NaN"}, "epoch": 3}',
            ],
        )
        self.assertEqual(done.stderr.count("trainyard:"), 1, done.stderr)

    def test_nobody_at_the_socket_or_a_wrong_token_is_no_error(self) -> None:
        for change in ({"TRAINYARD_CHANNEL": "/nowhere"}, {"TRAINYARD_TOKEN": "other"}):
            self.worker()
            done = self.program(
                "import trainyard as ty; ty.report({'a': 1}); print(ty.info().job)",
                change,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, '{"metrics": {"a": 1}}\njob-1\n')
            self.assertIn("there is no channel to Trainyard", done.stderr)

    def test_a_worker_that_speaks_nonsense_is_left(self) -> None:
        path = str(self.folder / "s")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()

        def speak() -> None:
            for line in (b"hallo\n", b'{"type":"welcome"}\n', b"[]\n", b""):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(line)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        for _ in range(4):
            with self.assertRaises(_channel.Closed):
                _channel.Channel(path, "")
        thread.join()


def _closing_when(case: Case, worker: object) -> int:
    """Standard input for a program: a line comes once the worker has its report and is gone."""
    reading, writing = os.pipe()

    def leave() -> None:
        wait_for("the report", lambda: worker.reports)  # type: ignore[attr-defined]
        worker.stop_listening()  # type: ignore[attr-defined]
        worker.drop()  # type: ignore[attr-defined]
        os.write(writing, b"\n")
        os.close(writing)

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    case.addCleanup(os.close, reading)
    case.addCleanup(thread.join)
    return reading


class Threads(Case):
    def test_many_threads_share_one_connection(self) -> None:
        worker = self.worker()
        ty.info()

        def speak(thread: int) -> None:
            for i in range(100):
                ty.report({"thread": thread, "i": i})
                ty.should_stop()

        threads = [threading.Thread(target=speak, args=[n]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for("all", lambda: len(worker.reports) == 800)
        self.assertEqual(worker.hellos, 1)
        for n in range(8):
            order = [r["metrics"]["i"] for r in worker.reports if r["metrics"]["thread"] == n]
            self.assertEqual(order, list(range(100)))

    def test_a_worker_full_of_answers_is_read_while_reports_wait(self) -> None:
        worker = self.worker()
        ty.info()
        # Deaf until the socket is full, it then answers every line while more of them come.
        worker.refuse_all = "r" * 2000
        worker.deaf.set()

        said = []

        def speak() -> None:
            for i in range(20_000):
                ty.report({"number": i, "a long name " * 8: i})
                said.append(i)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        wait_for("lines that nobody has read", lambda: len(said) > 100)
        worker.deaf.clear()
        thread.join(120)
        self.assertFalse(thread.is_alive(), "program and worker wait for each other")

    def test_a_question_does_not_wait_for_another_threads_checkpoint(self) -> None:
        worker = self.worker()
        worker.slow_upload = True
        (self.folder / "w").write_text("w")
        for _ in range(2):
            ty.report({"loss": 1}, checkpoint="w")
        third = threading.Thread(target=lambda: ty.report({"loss": 1}, checkpoint="w"))
        third.start()
        wait_for("the third to wait", lambda: len(worker.checkpoints) == 2)
        worker.push_stop("leave")
        wait_for("the stop", lambda: _session.current()._channel.should_stop())
        self.assertTrue(third.is_alive())
        worker.uploaded()
        third.join()
        self.assertEqual(len(worker.checkpoints), 3)


class Processes(Case):
    def test_a_forked_child_has_a_connection_of_its_own(self) -> None:
        worker = self.worker()
        done = self.program(
            """
            import os, trainyard as ty
            ty.report({"who": 0})
            child = os.fork()
            if child == 0:
                ty.report({"who": 1})
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            ty.report({"who": 2})
            assert not ty.should_stop()
            """,
            {},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(worker.hellos, 2)
        self.assertEqual(sorted(r["metrics"]["who"] for r in worker.reports), [0, 1, 2])

    def test_a_child_that_ends_while_a_thread_speaks_cuts_nothing(self) -> None:
        worker = self.worker()
        done = self.program(
            """
            import os, threading, trainyard as ty
            def speak():
                for i in range(2000):
                    ty.report({"i": i})
            thread = threading.Thread(target=speak)
            thread.start()
            for _ in range(30):
                child = os.fork()
                if child == 0:
                    ty.should_stop()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            thread.join()
            assert not ty.should_stop()
            """,
            {},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([r["metrics"]["i"] for r in worker.reports], list(range(2000)))

    def test_sigterm_is_an_answer_once_the_program_asks(self) -> None:
        self.worker()
        process = self.start(
            """
            import os, signal, time, trainyard as ty
            ty.should_stop()
            print("asks", flush=True)
            heard, say = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(say, b"!")
                while True:
                    time.sleep(1)
            os.read(heard, 1)
            os.kill(child, signal.SIGTERM)
            print(os.waitpid(child, 0)[1], flush=True)
            while not ty.should_stop():
                time.sleep(0.01)
            print("stops")
            """,
            {},
        )
        self.assertEqual(process.stdout.readline(), "asks\n")
        # The child does not take it for an answer.
        self.assertEqual(process.stdout.readline(), f"{signal.SIGTERM.value}\n")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, output), (0, "stops\n"), errors)

    def test_a_program_that_never_asks_ends_with_sigterm(self) -> None:
        self.worker()
        process = self.start(
            """
            import time, trainyard as ty
            ty.report({"a": 1})
            print("runs", flush=True)
            while True:
                time.sleep(1)
            """,
            {},
        )
        self.assertEqual(process.stdout.readline(), "runs\n")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
