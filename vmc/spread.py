"""How many of a process's cores become devices of their own.

One device of JAX on a CPU runs one program: its large products use all cores, its
loops over proposals one.  With a core per device the walkers are shared evenly, and
every part of a step is; a small step is faster alone, because devices wait for one
another at every sum.  Results agree to rounding for any number of devices.
"""

from __future__ import annotations

import contextlib
import math
import os

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vmc.base import WaveFunction
from vmc.distributed import walker_mesh
from vmc.errors import JobError
from vmc.flops import count
from vmc.launch import CORES

#: Operations of one evaluation of psi on all samples that are worth another device.
#: Measured on 2 cores: chains of 20 sites with an RBM (2e6 in all) lose a third on two
#: devices, a GRU on 20 sites (1e8) halves its step, a complex RBM on 100 sites (1e8)
#: needs 0.75 of it.
WORK = 1e7
#: Share of the machine's memory that the copies of all devices may take together.
MEMORY = 0.25
#: How a user sets the number of devices: then a job has exactly these.
NUMBER, _FORCED = "JAX_NUM_CPU_DEVICES", "xla_force_host_platform_device_count"


def offer_cores() -> None:
    """Let every core of this process be a device; before JAX looks for devices.

    Does nothing where the user has set their number, or JAX has been used already.  A
    job takes of them what pays.

    Raises:
        JobError: VMC_CORES is no number.
    """
    if _number() > 0 or _FORCED in os.environ.get("XLA_FLAGS", ""):
        return
    cores = int(min(_share(), len(os.sched_getaffinity(0))))
    with contextlib.suppress(RuntimeError):  # JAX has its devices
        jax.config.update("jax_num_cpu_devices", cores)


def _share() -> float:
    text = os.environ.get(CORES, "")
    if not text:
        return math.inf
    if not text.isdigit() or int(text) < 1:
        raise JobError(f"{CORES}={text!r}: expected a number of cores, 1 or more")
    return int(text)


def offered() -> bool:
    """Whether the devices are cores that a job need not take."""
    by_user = NUMBER in os.environ or jax.default_backend() != "cpu"
    return _number() > 0 and not by_user


def _number() -> int:
    """CPU devices that JAX was told to make; -1 if it was not told."""
    return int(getattr(jax.config, "jax_num_cpu_devices", -1))


def mesh_for(
    wavefunction: WaveFunction, n_sites: int, n_chains: int, n_samples: int, copied: int
) -> Mesh:
    """The mesh of a job: all devices, or as many of the offered cores as pay.

    Args:
        wavefunction: whose evaluation measures the work of a step.
        n_sites: N.
        n_chains: walkers, which the devices share evenly.
        n_samples: of a step.
        copied: bytes that every device has for itself.
    """
    devices = jax.devices()
    if not offered() or len(devices) == 1 or jax.process_count() > 1:
        return walker_mesh()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = [len(devices), MEMORY * pages / max(1, copied)]
    most.append(n_samples * operations(wavefunction, n_sites) / WORK)
    n = int(max(1, min(most)))
    return walker_mesh(devices[: next(d for d in range(n, 0, -1) if n_chains % d == 0)])


def operations(wavefunction: WaveFunction, n_sites: int) -> float:
    """Operations of one evaluation of log psi, without a loop of unknown length."""
    sigma = jax.ShapeDtypeStruct((1, n_sites), jnp.int8)
    params = jax.eval_shape(wavefunction.init, jax.random.key(0))
    work = count(wavefunction.log_psi, params, sigma)
    return work.flops + work.transcendentals
