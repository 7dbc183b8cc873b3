"""Memory that a compilation leaves behind goes back to the system."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmc import memory

BLOCK, COUNT = 32_768, 2000


def resident() -> int:
    """Bytes of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def freed_under_a_lid() -> int:
    """64 MiB of small blocks, freed below one that stays: the top cannot shrink.

    Returns:
        Address of the block that stays.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks = [libc.malloc(ctypes.c_size_t(BLOCK)) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks[:-1]:
        libc.free(ctypes.c_void_p(block))
    return blocks[-1]


needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not the C library of GNU"
)


@needs_glibc
def test_freed_memory_is_given_back() -> None:
    stays = freed_under_a_lid()
    before = resident()
    assert memory.give_back()
    assert before - resident() > 0.9 * BLOCK * COUNT
    ctypes.CDLL(None).free(ctypes.c_void_p(stays))


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.give_back()


@pytest.mark.parametrize(("limit", "times"), [(0.0, 1), (60.0, 0)])
def test_only_long_compilations_look_for_it(
    monkeypatch: pytest.MonkeyPatch, limit: float, times: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "LONG", limit)
    monkeypatch.setattr(memory, "give_back", lambda: calls.append(1))
    assert memory.compiling(lambda: "program") == "program"
    assert len(calls) == times


TWICE = """
import ctypes, resource
from vmc import memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
assert {call} == {kept}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(48 << 20)))
    ctypes.memset(block, 1, 48 << 20)
    libc.free(block)

use()
before = faults()
for _ in range(4):
    use()
print(faults() - before)
"""


def page_faults(call: str, kept: bool, **environment: str) -> int:
    """Of four uses of 48 MiB, after a first one, in a process of its own."""
    script = TWICE.format(call=call, kept=kept)
    env = os.environ | environment
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@needs_glibc
def test_large_blocks_are_used_again() -> None:
    page_size = os.sysconf("SC_PAGE_SIZE")
    assert page_faults("memory.keep()", True) < 100
    own = page_faults("memory.keep()", False, GLIBC_TUNABLES="glibc.malloc.mmap_max=9")
    assert own >= (48 << 20) // page_size or huge_pages()


def huge_pages() -> bool:
    """Whether the system gives large pages to all."""
    found = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return found.exists() and "[always]" in found.read_text()


def test_another_c_library_keeps_its_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep()
