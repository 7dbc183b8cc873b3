"""A clock beside a run, which ends it when nothing happens any more."""

from __future__ import annotations

import contextlib
import faulthandler
import socket
import sys
import threading
import time
from collections.abc import Iterator

from vmc import cluster, launch

#: Exit code of a run that made no progress.
STUCK = 124


class Watchdog:
    """Ends the run when nothing was heard of it for too long.

    A rank that hangs but lives (a stuck file system, a dead network) is noticed by
    nobody else: the others wait in a collective for ever.
    """

    def __init__(self, seconds: float) -> None:
        """Not running yet; see `beat`.

        Args:
            seconds: longest time between two beats; infinite never ends a run.
        """
        self._seconds = seconds
        self._last: float | None = None
        self._what = ""
        self._thread: threading.Thread | None = None
        self._over = False

    def beat(self, what: str) -> None:
        """There was progress; the next is due within the limit.

        Args:
            what: what was reached, for the message.
        """
        self._what, self._last = what, time.monotonic()
        if self._thread is None and self._seconds < float("inf"):
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """No limit from now on; the thread ends."""
        self._last, self._over = None, True

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """No limit meanwhile."""
        before, self._last = self._last, None
        try:
            yield
        finally:
            if before is not None:
                self.beat(self._what)

    def _watch(self) -> None:
        while not self._over:
            time.sleep(min(1.0, self._seconds / 4))
            last = self._last
            if last is not None and time.monotonic() - last > self._seconds:
                where = launch.launch()
                print(
                    f"error: rank {where.rank} of {where.size} on "
                    f"{socket.gethostname()} made no progress for {self._seconds:g} s "
                    f"after {self._what}; a rank hangs, or run.stuck_minutes is too "
                    "short for this job. All ranks end now; where this one stood:",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(all_threads=True)
                cluster.abort(STUCK)
