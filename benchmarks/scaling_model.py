"""What a step costs on D devices: formulas, and what they predict for large machines.

``python benchmarks/scaling_model.py`` prints the tables of docs/scaling.md.  Bytes are
those that a device receives in the collectives of one step, as they stand in
`vmc.geometry` and `vmc.precondition`; a test compares them with the compiled program.
Rates are assumptions, named in `Machine`; nothing here was measured on GPUs.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vmc.blocked import PANELS, WIDTH

Method = Literal["dense", "factored", "columns", "cg-parameters", "cg-samples"]
METHODS: tuple[Method, ...] = (
    "dense",
    "factored",
    "columns",
    "cg-parameters",
    "cg-samples",
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Assumed rates of one device.

    Attributes:
        bandwidth: bytes per second that a device receives from others.
        latency: seconds per collective.
        multiply: matrix products, real floating-point operations per second.
        factorise: Cholesky decompositions, the same.
    """

    bandwidth: float = 40e9
    latency: float = 100e-6
    multiply: float = 30e12
    factorise: float = 10e12


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of stochastic reconfiguration.

    Attributes:
        method: dense: S = O^H O, P x P.  factored: T = O O^H from factors of the
            scores (RBM, trees).  columns: T from dense scores by all_to_all.  cg-...:
            conjugate gradients without a matrix, in the space of parameters or of
            samples.
        samples: Ns over all devices.
        parameters: P.
        factors: numbers per sample of the factored scores, summed over leaves.
        word: bytes of a number: 16 complex, 8 real.
        iterations: of conjugate gradients.
        sampling: real operations per sample for sampling and local energies.
    """

    method: Method
    samples: int
    parameters: int
    factors: int = 0
    word: int = 16
    iterations: int = 200
    sampling: float = 0.0

    @property
    def _real(self) -> float:
        """Real operations of a multiplication and an addition."""
        return 8.0 if self.word == 16 else 2.0

    def received(self, devices: int) -> dict[str, float]:
        """Bytes that a device holds after the collectives of a step, by kind."""
        ns, p, b = self.samples, self.parameters, self.word
        # Means of the scores, the force, the update; see `vmc.geometry.adjoint`.
        reduce, gather, turn, scatter = 3.0 * p * b, 0.0, 0.0, 0.0
        if devices == 1:
            return {"all-reduce": 0.0}
        if self.method == "dense":
            reduce += float(p) ** 2 * b
        elif self.method == "factored":
            reduce += ns * b  # means over the columns of T
            gather = float(ns) * self.factors * b + self.panels(devices)[0] * b
        elif self.method == "columns":
            reduce += ns * b
            turn, scatter = ns * p * b / devices, float(ns) ** 2 * b / devices
            gather = self.panels(devices)[0] * b
        else:
            # Two right-hand sides: the force, and the probe of the noise.
            reduce += 2.0 * self.iterations * p * b
            if self.method == "cg-samples":
                gather = 2.0 * self.iterations * ns * b
        found = {
            "all-reduce": reduce,
            "all-gather": gather,
            "all-to-all": turn,
            "reduce-scatter": scatter,
        }
        return {kind: size for kind, size in found.items() if size}

    def panels(self, devices: int) -> tuple[float, int, int]:
        """Numbers in the panels of the Cholesky decomposition, how many, their width.

        See `vmc.blocked`.
        """
        m = self.samples // devices
        each = max(1, -(-max(WIDTH, self.samples // PANELS) // devices))
        width, total, count = float(each * devices), 0.0, 0
        for start in range(0, m, each):
            rest = float(self.samples - start * devices)
            total, count = total + min(width, rest) * rest, count + 1
        return total, count, int(width)

    def collectives(self, devices: int) -> int:
        """How many collectives a step has, about."""
        if self.method in ("factored", "columns"):
            return 12 + 2 * self.panels(devices)[1]
        per_iteration = {"cg-parameters": 3, "cg-samples": 4}.get(self.method, 0)
        return 12 + 2 * per_iteration * self.iterations

    def memory(self, devices: int) -> float:
        """Bytes of the large arrays on one device."""
        ns, p, b = self.samples, self.parameters, self.word
        scores = ns / devices * (self.factors or p) * b
        if self.method == "dense":
            return scores + 2.0 * p**2 * b
        # Rows of T, the factor in panels, and those again in real numbers.
        square = ns**2 * b * (2.0 / devices + 1.0 if devices > 1 else 2.0)
        if self.method == "factored":
            return scores + ns * self.factors * b + square
        if self.method == "columns":
            return 2 * scores + square + ns**2 * b
        return scores + 6.0 * p * b

    def seconds(self, devices: int, machine: Machine) -> float:
        """Wall time of a step: nothing overlaps with anything."""
        ns, p, real = float(self.samples), float(self.parameters), self._real
        near = ns / devices
        width = float(self.factors or p)
        flops = self.sampling * near
        solve = 0.0
        if self.method == "dense":
            flops += real * near * p**2
            solve = real * p**3 / 6
        elif self.method in ("factored", "columns"):
            flops += real * near * ns * width
            solve = real * ns**3 / 6
            if devices > 1:
                # Products and panels are shared, pivot blocks and solves are not.
                _, count, w = self.panels(devices)
                flops += solve / devices
                solve = real * (count * float(w) ** 3 / 6 + 2 * ns**2)
        else:
            flops += 2 * 2 * self.iterations * real * near * width
        wire = 0.0
        share = (devices - 1) / devices
        for kind, size in self.received(devices).items():
            wire += size * share * (2 if kind == "all-reduce" else 1)
        latency = self.collectives(devices) * machine.latency if devices > 1 else 0.0
        return (
            flops / machine.multiply
            + solve / machine.factorise
            + wire / machine.bandwidth
            + latency
        )

    def efficiency(self, devices: int, machine: Machine) -> float:
        """Strong scaling: t(1) / (D t(D)), as if one device had the memory."""
        return self.seconds(1, machine) / (devices * self.seconds(devices, machine))


def main() -> None:
    """Print the tables of docs/scaling.md."""
    machine = Machine()
    # A deep net of 1e6 parameters on 100 sites: some 1500 amplitudes of 2e8 operations.
    for ns, p, f, work in ((16384, 20_000, 300, 1e9), (16384, 1_000_000, 0, 3e11)):
        print(f"\nNs = {ns}, P = {p}, complex128, {work:.0e} operations per sample")
        print("| method | D | received, MB | memory, GB | seconds | efficiency |")
        print("|---|---|---|---|---|---|")
        for method in METHODS:
            if (method == "factored") != bool(f) and method in ("factored", "columns"):
                continue
            if method == "dense" and p > 50_000:
                continue
            step = Step(method, ns, p, factors=f, sampling=work)
            for devices in (8, 64, 1024, 4096):
                mb = sum(step.received(devices).values()) / 1e6
                print(
                    f"| {method} | {devices} | {mb:.0f} | "
                    f"{step.memory(devices) / 1e9:.1f} | "
                    f"{step.seconds(devices, machine):.3f} | "
                    f"{step.efficiency(devices, machine):.2f} |"
                )


if __name__ == "__main__":
    main()
