"""Which cores the threads of a rank may use.

JAX's collectives on CPUs have a thread of their own, which spins in ``epoll_wait``
while data waits that its own rank has not asked for yet.  Where the launcher gave the
rank one core, it keeps that core from the thread that would ask: for a slice of some
milliseconds each time, unless the scheduler ends the slice of an idle thread for any
other.  As an idle thread it is right beside the one that it serves, as long as the
core belongs to this rank alone; beside a foreign program it would hardly ever run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path

from vmc import launch

#: Seconds between two looks at a core.
PERIOD = 1.0
#: Share of a core that a foreign program takes ...
FOREIGN = 0.15
#: ... in this number of looks in a row, before it counts.
LOOKS = 2


def threads() -> set[int]:
    """Threads of this process; none where there is no /proc."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return set()


def settle(new: set[int]) -> None:
    """Place the threads of a rank on a CPU, once JAX has begun.

    A rank of one core stays there while it has the core for itself.

    Args:
        new: threads that JAX has started, that of its collectives among them.
    """
    polling = _step_back(new)
    cores = os.sched_getaffinity(0)
    if len(cores) > 1 or any(isinstance(t, Watch) for t in threading.enumerate()):
        return
    (core,) = cores
    watch = Watch(core, polling)
    if watch.look() is None:
        roam(polling)
    else:
        watch.start()


def _step_back(threads: set[int]) -> set[int]:
    """Let the thread of JAX's CPU collectives run where nothing else wants to.

    Of the given threads it is the one that polls; where the system does not tell, all
    stays as is.  Returns it.
    """
    found = set()
    for thread in threads:
        with contextlib.suppress(OSError):
            if "epoll" not in Path(f"/proc/self/task/{thread}/wchan").read_text():
                continue
            found.add(thread)
            try:
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
            except OSError:  # a sandbox without it
                os.setpriority(os.PRIO_PROCESS, thread, 19)
    return found


def roam(polling: set[int]) -> None:
    """Let every thread run on any core.  The number of those that compute stays.

    Args:
        polling: threads that get their old priority back, where that is allowed
            (RLIMIT_NICE): idle ones starve when every core has something to do.
    """
    everywhere = range(os.cpu_count() or 1)
    for thread in threads():
        with contextlib.suppress(OSError):  # it has ended, or may not move
            os.sched_setaffinity(thread, everywhere)
    for thread in polling:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, thread, 0)


class Watch(threading.Thread):
    """Looks for foreign programs on the only core of this rank.

    Two jobs whose launchers know nothing of each other bind to the same cores, and
    beside a foreign program every exchange takes many times as long, since the idle
    thread waits for the core.  The threads of this rank may then run on any.
    """

    def __init__(self, core: int, polling: set[int]) -> None:
        """Not begun yet.

        Args:
            core: number of the core.
            polling: idle threads; see `roam`.
        """
        super().__init__(name="watch-core", daemon=True)
        self.core, self.polling = core, polling

    def run(self) -> None:
        """Until a foreign program comes; see `FOREIGN`."""
        last, seen = self.look(), 0
        while seen < LOOKS:
            time.sleep(PERIOD)
            now = self.look()
            if last is None or now is None:
                return
            foreign = (now[1] - last[1]) - (now[2] - last[2])
            seen = seen + 1 if foreign > FOREIGN * (now[0] - last[0]) else 0
            last = now
        roam(self.polling)
        where = launch.launch()
        print(
            f"warning: rank {where.rank} on {socket.gethostname()} is bound to core "
            f"{self.core}, but does not have it for itself: the threads of this rank "
            "may run on any core from now on. Give every job cores of its own (mpirun "
            "--cpu-set, or a batch system)",
            file=sys.stderr,
            flush=True,
        )

    def look(self) -> tuple[float, float, float] | None:
        """Seconds: of the clock, of the core computing, of this process computing.

        None where the system does not tell.
        """
        tick, name = os.sysconf("SC_CLK_TCK"), f"cpu{self.core} "
        try:
            lines = Path("/proc/stat").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            if line.startswith(name):
                user, nice, system = map(int, line.split()[1:4])
                busy = (user + nice + system) / tick
                return time.monotonic(), busy, time.process_time()
        return None
