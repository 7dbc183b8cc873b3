"""The job of a job file in Python, with a look at every step; writes no files."""

from __future__ import annotations

import jax

import vmc


def main() -> None:
    """Run a short job and stop it early once its energy is flat."""
    jax.config.update("jax_enable_x64", True)  # the command line does this for you
    job = vmc.Job(
        lattice={"name": "chain", "size": [16]},
        hamiltonian={"name": "tfim", "h": 1.0},
        ansatz={"name": "rbm", "alpha": 2},
        sampler={"n_chains": 256, "n_samples": 256},
        run={"n_steps": 200},
    )

    def stop_when_exact_enough(info: vmc.Info) -> None:
        if info.phase == "steps" and info.last("variance") < 1e-2:
            raise vmc.StopRun

    for info in vmc.iterate(job, callback=stop_when_exact_enough):
        if info.phase == "steps":
            print(f"step {info.step:4d}  energy {info.last('energy'):.5f}")
        if info.result is not None:
            energy = info.result.energy
            print(f"measured {energy.mean:.5f} +- {energy.error:.5f}")
            print(f"relative error {info.result.report['relative_error']:+.1e}")


if __name__ == "__main__":
    main()
