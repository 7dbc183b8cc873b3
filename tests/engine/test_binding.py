"""Where the threads of a rank may run: at home, until somebody else lives there."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from vmc import binding

CORE = min(os.sched_getaffinity(0))

BOUND = f"""
    import os, select, threading, time
    from vmc import binding

    os.sched_setaffinity(0, {{{CORE}}})
    binding.PERIOD = 0.3
    before = binding.threads()
    threading.Thread(target=select.epoll().poll, daemon=True).start()
    time.sleep(0.3)
    (polling,) = binding.threads() - before
    binding.settle({{polling}})
    print(os.sched_getscheduler(polling) == os.SCHED_IDLE)
    (watch,) = (t for t in threading.enumerate() if isinstance(t, binding.Watch))
    binding.settle(set())
    watch.join(30)
    cores = {{len(os.sched_getaffinity(t)) for t in binding.threads()}}
    print(watch.is_alive(), cores == {{os.cpu_count()}})
    print(os.sched_getscheduler(polling) == os.SCHED_OTHER)
"""


def test_a_foreign_program_sets_the_threads_free() -> None:
    hog = subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{CORE}}})\n"
         "while True: pass"]
    )  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(BOUND)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        hog.kill()
        hog.wait()
    idle, alive, everywhere, awake = done.stdout.split()
    assert (idle, alive, everywhere) == ("True", "False", "True")
    assert awake == "True" or os.geteuid() != 0
    assert f"is bound to core {CORE}, but does not have it" in done.stderr
    assert done.stderr.count("warning") == 1


@pytest.mark.parametrize(
    "shares, freed",
    [
        ([(0.9, 0.9)] * 3, False),
        ([(0.9, 0.9), (0.9, 0.5), (1.0, 1.0)] * 3, False),
        ([(0.1, 0.9)] * 3, False),
        ([(0.5, 0.5), (0.9, 0.5), (1.0, 0.5)], True),
    ],
    ids=["alone", "passing", "counted more coarsely", "beside another"],
)
def test_only_a_lasting_guest_counts(
    shares: list[tuple[float, float]],
    freed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looks() -> Iterator[tuple[float, float, float] | None]:
        at = [0.0, 7.0, 3.0]
        yield 0.0, 7.0, 3.0
        for busy, own in shares:
            at = [at[0] + 1, at[1] + busy, at[2] + own]
            yield at[0], at[1], at[2]
        yield None

    found = looks()
    calls = []
    monkeypatch.setattr(binding, "PERIOD", 0.0)
    monkeypatch.setattr(binding, "roam", lambda polling: calls.append("roam"))
    watch = binding.Watch(0, set())
    monkeypatch.setattr(watch, "look", lambda: next(found))
    watch.run()
    assert bool(calls) == freed


def test_what_the_system_tells_of_a_core() -> None:
    now = binding.Watch(CORE, set()).look()
    assert now is not None
    clock, core, own = now
    assert clock > 0 and core > 0 and own > 0
    assert binding.Watch(10**6, set()).look() is None


def test_without_that_the_threads_are_free_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    monkeypatch.setattr(binding, "roam", lambda polling: calls.append("roam"))
    monkeypatch.setattr(binding.Watch, "look", lambda self: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    binding.settle(set())
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    binding.settle(set())
    assert calls == ["roam"]
