"""The strict bench: four fake devices, 64-bit numbers, no silent broadcasting."""

from __future__ import annotations

import gc
import os

# Before JAX or NumPy is imported, and over whatever the caller's shell says: the
# tests need exactly this, and one OpenBLAS thread keeps their bits.
N_DEVICES = 4
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
_FLAG = "--xla_force_host_platform_device_count"
_KEPT = [f for f in os.environ.get("XLA_FLAGS", "").split() if not f.startswith(_FLAG)]
os.environ["XLA_FLAGS"] = " ".join([*_KEPT, f"{_FLAG}={N_DEVICES}"])

from collections.abc import Callable, Iterator  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from jax.sharding import Mesh  # noqa: E402

from vmc.base import WALKERS  # noqa: E402

#: No optimisation in LLVM, and fusions by the old emitters: half the compile time.
#: XLA ends the process at a flag that it does not know: only where it was tried.
QUICK_COMPILER = ["--xla_backend_optimization_level=0"]
if (0, 10) <= jax.__version_info__ < (0, 11):
    QUICK_COMPILER.append("--xla_cpu_use_fusion_emitters=false")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config: pytest.Config) -> None:
    """The fast tier compiles more than it computes: it takes the cheap compiler.

    The slow tier, like every user, has the compiler's default.
    """
    flags = os.environ["XLA_FLAGS"]
    if config.option.markexpr == "not slow" and QUICK_COMPILER[0] not in flags:
        os.environ["XLA_FLAGS"] = " ".join([flags, *QUICK_COMPILER])


@pytest.fixture(scope="session", autouse=True)
def strict_bench() -> None:
    """Fail at once where another plugin started JAX before this file."""
    assert jax.device_count() == N_DEVICES, "JAX was started before tests/conftest.py"
    assert jax.config.read("jax_enable_x64")


@pytest.fixture(scope="module", autouse=True)
def programs_are_freed() -> Iterator[None]:
    """Compiled programs keep memory maps, of which a process has 65,530."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def mesh_of() -> Callable[[int], Mesh]:
    """n -> the walker mesh of the first n fake devices."""
    return lambda n: Mesh(np.array(jax.devices()[:n]), (WALKERS,))


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers for test inputs, the same in every test."""
    return np.random.default_rng(20240229)
