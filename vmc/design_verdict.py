"""What held a trained state back: its channels or its optimisation.

Three numbers decide.  The *unavoidable* error, below which no parameters of the
architecture go: a certified floor, and the least energy of its rank across its worst
cut.  The *expected* one, what a good optimisation of its bonds ends at.  And whether
the state *moves*: the part of (H - E) psi that a change of its parameters can follow,
or the fall of the energy in the last steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CHANNELS, OPTIMISATION = "channel-limited", "optimisation-limited"
UNDECIDED, REACHED = "undecided", "target reached"

#: Parts of the error that count as most of it, and as little of it.
MOST, LITTLE = 0.5, 0.2
#: Part of the residual that small changes can follow, below which a state is at rest.
AT_REST = 0.1


class Evidence(NamedTuple):
    """What is known of a trained state; energies of the whole system.

    Attributes:
        error: E - E0, or None where E0 is not known.
        noise: one standard error of it.
        target: E - E0 that was aimed at.
        certified: no parameters are below this, or None.
        fixed_rank: least E - E0 found at the rank of the worst cut, or None.
        expected: E - E0 that the discarded weights of all bonds make one expect (of a
            ConvAC: of the bonds that its channels hold in generic tensors), or None
            where no bonds describe the architecture.
        captured: part of (H - E) psi in the directions of the parameters, or None.
        falling: how far the energy fell over the last fifth of the steps, or None.
        limited: whether some cut is too narrow for the target; None without spectra.
        narrow: the largest part of ln of the capacity that the required entropy
            takes up, over all cuts that the architecture limits; or None.
        missing: the largest part of the required entropy that the state lacks, beyond
            its errors; or None.
    """

    error: float | None
    noise: float
    target: float
    certified: float | None = None
    fixed_rank: float | None = None
    expected: float | None = None
    captured: float | None = None
    falling: float | None = None
    limited: bool | None = None
    narrow: float | None = None
    missing: float | None = None

    @property
    def unavoidable(self) -> float:
        """The part of the error that no parameters remove, as far as is known."""
        return max(self.certified or 0.0, self.fixed_rank or 0.0)

    @property
    def at_rest(self) -> bool | None:
        """Whether small changes of the parameters no longer lower the energy."""
        if self.captured is not None:
            return self.captured < AT_REST
        if self.falling is None or self.error is None:
            return None
        return self.falling < 0.1 * max(self.error, 3 * self.noise)


class Decision(NamedTuple):
    """A verdict and the reasons for it, in words.

    Attributes:
        verdict: "channel-limited", "optimisation-limited", "undecided" or
            "target reached".
        reasons: the evidence.
    """

    verdict: str
    reasons: tuple[str, ...]


def decide(found: Evidence) -> Decision:
    """The verdict that some evidence supports."""
    if found.error is None:
        return _by_entropies(found)
    if found.error <= found.target + 2 * found.noise:
        text = f"E - E0 = {found.error:.3g}, the target is {found.target:.3g}"
        return Decision(REACHED, (text,))
    share = found.unavoidable / found.error
    said = [
        f"{share:.0%} of E - E0 = {found.error:.3g} is out of reach of any parameters "
        f"({_where(found)})"
    ]
    moving = _moving(found)
    said += [moving] if moving else []
    if share >= MOST:
        return Decision(CHANNELS, tuple(said))
    hoped = None if found.expected is None else found.expected / found.error
    if hoped is not None:
        said.append(
            f"truncating the ground state to its bonds costs about {found.expected:.3g}"
        )
    if found.at_rest is None:
        said.append("whether it still moves is not known")
        ample = hoped is not None and hoped < LITTLE
        return Decision(OPTIMISATION if ample else UNDECIDED, tuple(said))
    if not found.at_rest:
        if share < LITTLE or (hoped is not None and hoped < MOST):
            return Decision(OPTIMISATION, tuple(said))
        said.append("train on before growing")
        return Decision(UNDECIDED, tuple(said))
    if hoped is None:
        narrow = bool(found.limited)
    else:
        narrow = hoped >= LITTLE
    if narrow:
        return Decision(CHANNELS, tuple(said))
    if hoped is None and found.limited is None:
        said.append("no cut tells whether it is wide enough")
        return Decision(UNDECIDED, tuple(said))
    said.append(
        "its cuts are wide enough: a local minimum. Try another seed or optimiser; "
        "only then a larger ansatz"
    )
    return Decision(OPTIMISATION, tuple(said))


def _where(found: Evidence) -> str:
    parts = []
    if found.certified is not None:
        parts.append(f"certified floor {found.certified:.3g}")
    if found.fixed_rank is not None:
        parts.append(f"least energy of this rank {found.fixed_rank:.3g}")
    return ", ".join(parts) or "as far as is known"


def _moving(found: Evidence) -> str:
    """Whether the state moves, in words."""
    if found.captured is not None:
        rest = "at rest" if found.at_rest else "not at rest"
        return (
            f"{rest}: changes of the parameters follow {found.captured:.0%} of "
            "(H - E) psi"
        )
    if found.falling is not None:
        rest = "at rest" if found.at_rest else "not at rest"
        return f"{rest}: the last fifth of the steps lowered E by {found.falling:.2g}"
    return ""


def _by_entropies(found: Evidence) -> Decision:
    """Where the ground energy is not known, only entropies are left to compare."""
    if found.narrow is None or found.missing is None:
        return Decision(UNDECIDED, ("neither E0 nor entropies to compare are known",))
    said = (
        "E0 is not known",
        f"the required entropy takes up to {found.narrow:.0%} of ln capacity",
        f"the state lacks up to {found.missing:.0%} of the required entropy",
    )
    if found.limited or found.narrow >= 0.9:
        return Decision(CHANNELS, said)
    if found.missing >= LITTLE and found.narrow < 0.7:
        return Decision(OPTIMISATION, said)
    return Decision(UNDECIDED, said)


def fall(energies: Sequence[float]) -> float | None:
    """How far the mean energy fell from the last but one to the last fifth of steps."""
    fifth = len(energies) // 5
    if fifth < 2:
        return None
    last, before = energies[-fifth:], energies[-2 * fifth : -fifth]
    return float(sum(before) - sum(last)) / fifth
