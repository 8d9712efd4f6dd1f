"""A rank ends once no thread computes any more; what other threads do for long does not hold it up."""

from __future__ import annotations

import hashlib
import os
import threading
import unittest

from fake_worker import PATIENCE_S
from support import Case

from trainyard import _leaving

# Some tenths of a second, in which the interpreter is given away.
ROUNDS = 300_000


@unittest.skipUnless(os.path.isdir(_leaving.TASKS), "this system does not say what threads do")
class Leaving(Case):
    def test_a_thread_that_computes_is_waited_for(self) -> None:
        begun, done = threading.Event(), threading.Event()

        def compute() -> None:
            begun.set()
            hashlib.pbkdf2_hmac("sha256", b"", b"", ROUNDS)
            done.set()

        thread = threading.Thread(target=compute)
        thread.start()
        begun.wait()
        self.assertTrue(_leaving.rest(PATIENCE_S))
        self.assertTrue(done.is_set())
        thread.join()

    def test_one_that_never_rests_is_not(self) -> None:
        over = threading.Event()

        def compute() -> None:
            while not over.is_set():
                hashlib.pbkdf2_hmac("sha256", b"", b"", ROUNDS // 100)

        thread = threading.Thread(target=compute)
        thread.start()
        self.assertFalse(_leaving.rest(0.05))
        over.set()
        thread.join()

    def test_threads_that_wait_hold_nothing_up(self) -> None:
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        self.assertTrue(_leaving.rest(PATIENCE_S))
        over.set()
        thread.join()


if __name__ == "__main__":
    unittest.main()
