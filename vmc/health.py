"""Warnings of a run that goes on: said when they first occur, counted, listed once.

What is watched follows from the per-step columns alone, step by step.  So all ranks
come to the same warnings, and a resumed run to those of an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from vmc.records import WINDOW
from vmc.stats import Estimate
from vmc.step import DRIFT_LIMIT

#: Mean acceptance of a window below which the walkers stand still.  Well-tuned and
#: badly tuned chains alike accept 0.1 to 0.7.  The smallest run makes some thousand
#: proposals in a window, so that 0.01 is not mistaken for it.
ACCEPTANCE_LIMIT = 1e-3
#: Pooled R-hat above which chains remember where they were for longer than 4 of the
#: window's steps.
R_HAT_LIMIT = 1.1
#: Windows throughout which R-hat has to stay above.  Fewer mean little: few chains
#: make a window noisy, and healthy runs of a critical chain stay above (but below 1.2)
#: for up to 63 steps.  Chains that were stuck did for 190 and more, up to 1.6 and 4.
R_HAT_WINDOWS = 5
#: While psi is still nearly uniform, energies relax slowly in healthy runs as well
#: (the first 85 steps of a Heisenberg chain of 64 sites): the first part of a run,
#: at most so many steps of it, is not judged.
SETTLING_PART, SETTLING_STEPS = 1 / 3, 1000
#: Drift that is worth a word, as a part of the one that rejects a step.  Rounding makes
#: 5e-10 in float64 at most (limit 1e-6), but 2e-4 in float32 (limit 5e-2) at 64 sites.
DRIFT_PART = {"float64": 0.01, "mixed": 0.1, "float32": 0.1}

#: Split R-hat of the final measurement above which its chains do not agree.
FINAL_R_HAT_LIMIT = 1.02
#: Draws per chain below which the final R-hat says nothing.
FINAL_R_HAT_DRAWS = 64


class Alarms:
    """Warnings that may recur: each kind is said once and listed once, with a count."""

    def __init__(self, listed: list[str], say: Callable[[str], None]) -> None:
        """Nothing has happened yet.

        Args:
            listed: where the warnings are kept; others may add theirs.
            say: called with the first warning of each kind.
        """
        self._listed = listed
        self._say = say
        self._counts: dict[str, int] = {}
        self._places: dict[str, int] = {}

    def ring(
        self, kind: str, message: str, counted: str | None = None, *, say: bool = True
    ) -> None:
        """It happened, for the first time or again.

        Args:
            kind: what belongs together.
            message: what happened and what to do.
            counted: text for the list; default the newest message and how many there
                were.
            say: False only lists it.
        """
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if counted is None:
            counted = message if count == 1 else f"{message} ({count} times)"
        if count == 1:
            self._places[kind] = len(self._listed)
            self._listed.append(counted)
            if say:
                self._say(message)
        else:
            self.recount(kind, counted)

    def recount(self, kind: str, counted: str) -> None:
        """New text for the list, where the kind has occurred at all.

        Args:
            kind: what belongs together.
            counted: the text.
        """
        if kind in self._places:
            self._listed[self._places[kind]] = counted


@dataclasses.dataclass
class Check:
    """One column and what it should not do.

    Attributes:
        column: name of the column.
        span: steps that are judged together.
        judge: (m, span) values of m spans -> (m,) whether that is bad.
        what: what went wrong, in words.
        extreme: the worst of some values, as `min` is, and its name.
        cure: what it means and what to do.
        begin: steps that are not judged.
    """

    column: str
    span: int
    judge: Callable[[np.ndarray], np.ndarray]
    what: str
    extreme: tuple[Callable[[np.ndarray], float], str]
    cure: str
    begin: int = 0

    def __post_init__(self) -> None:
        self._tail = np.zeros(0)
        self._n_steps = self._n_bad = self._first = 0
        self._worst = np.nan

    def look(self, steps: np.ndarray, values: np.ndarray) -> bool:
        """Judge the next steps.

        Args:
            steps: their numbers, (m,).
            values: the column, (m,).

        Returns:
            Whether one of them is bad.
        """
        self._n_steps += len(values)
        history = np.concatenate([self._tail, values])
        self._tail = history[max(0, len(history) - self.span + 1) :]
        if len(history) < self.span:
            return False
        spans = np.lib.stride_tricks.sliding_window_view(history, self.span)
        judged = steps[len(steps) - len(spans) :]
        bad = self.judge(spans) & (judged - self.span >= self.begin)
        if not bad.any():
            return False
        extreme, _ = self.extreme
        self._first = self._first or int(judged[bad][0])
        self._n_bad += int(np.sum(bad))
        worst = extreme(values[len(values) - len(spans) :][bad])
        self._worst = float(extreme(np.array([worst, self._worst])))
        return True

    @property
    def message(self) -> str:
        """For the moment when it happens first."""
        return f"{self.what} (step {self._first}: {self._worst:.2g}): {self.cure}"

    @property
    def counted(self) -> str:
        """For the list."""
        return (
            f"{self.what} (first at step {self._first}, in {self._n_bad} of "
            f"{self._n_steps} steps, {self.extreme[1]} {self._worst:.2g}): {self.cure}"
        )


class Health:
    """Looks at every step of a run."""

    def __init__(
        self, alarms: Alarms, *, metropolis: bool, precision: str, n_steps: int
    ) -> None:
        """Nothing seen yet.

        Args:
            alarms: what to ring.
            metropolis: whether draws are proposed and accepted.
            precision: of the job.
            n_steps: of the whole run.
        """
        self._alarms = alarms
        self._checks = [_r_hat(n_steps), _drift(precision), *_repaired()]
        if metropolis:
            self._checks.append(_acceptance())

    def look(self, records: Mapping[str, np.ndarray], *, say: bool = True) -> None:
        """Judge the next rows of the series.

        Args:
            records: per-step columns; those that are not watched are ignored.
            say: False for rows that an earlier part of the run has seen.
        """
        steps = records.get("step")
        for check in self._checks:
            values = records.get(check.column)
            if steps is None or values is None or len(steps) == 0:
                continue
            if check.look(np.asarray(steps), np.asarray(values, np.float64)):
                self._alarms.ring(check.column, check.message, check.counted, say=say)
            else:
                self._alarms.recount(check.column, check.counted)


def _acceptance() -> Check:
    return Check(
        "acceptance",
        WINDOW,
        lambda spans: np.mean(spans, axis=1) < ACCEPTANCE_LIMIT,
        f"acceptance fell below {ACCEPTANCE_LIMIT:g}",
        (np.nanmin, "lowest"),
        "the walkers hardly move, and neither energies nor error bars can be trusted; "
        'try sampler.name = "mixed", a smaller optimizer.learning_rate, or an ansatz '
        "that can be drawn from directly",
    )


def _r_hat(n_steps: int) -> Check:
    span = R_HAT_WINDOWS * WINDOW
    return Check(
        "r_hat",
        span,
        lambda spans: np.all(spans > R_HAT_LIMIT, axis=1),
        f"pooled R-hat stayed above {R_HAT_LIMIT:g} for {span} steps",
        (np.nanmax, "highest"),
        "the chains do not agree: energies of single steps are noisier than their "
        "errors say; raise sampler.n_sweeps, or try other moves (sampler.name)",
        begin=min(int(SETTLING_PART * n_steps), SETTLING_STEPS),
    )


def _drift(precision: str) -> Check:
    limit = DRIFT_LIMIT[precision]
    worth = DRIFT_PART[precision] * limit
    cure = (
        "a larger optimizer.diag_shift keeps weights small"
        if precision == "float64"
        else 'precision = "float64" has more digits'
    )
    return Check(
        "drift",
        1,
        lambda spans: spans[:, 0] > worth,
        f"cached amplitudes drifted by more than {worth:g}",
        (np.nanmax, "largest"),
        f"a step is rejected at {limit:g}; {cure}",
    )


def _repaired() -> list[Check]:
    rejected = Check(
        "rejected",
        1,
        lambda spans: spans[:, 0] > 0,
        "bad steps were taken back and tried again with more care",
        (np.nanmax, "at most"),
        "a smaller optimizer.learning_rate or a larger optimizer.diag_shift would "
        "avoid them; after several in a row the run ends",
    )
    replaced = Check(
        "replaced",
        1,
        lambda spans: spans[:, 0] > 0,
        "walkers where psi or the local energy is no finite number were replaced",
        (np.nanmax, "at most"),
        "psi almost vanishes there; energies leave them out, and a step with more than "
        "a tenth of them is bad",
    )
    shrunk = Check(
        "shrunk",
        1,
        lambda spans: spans[:, 0] > 0,
        "|psi|^2 of the random first parameters was a few peaks, and they were halved",
        (np.nanmax, "at most"),
        "walkers do not get away from such peaks; a smaller scale of the first "
        "parameters (ansatz.init_scale, where there is one) would avoid it",
    )
    return [rejected, replaced, shrunk]


def final_warnings(estimate: Estimate | None, n_chains: int) -> list[str]:
    """What the final measurement makes one doubt.

    Args:
        estimate: the final measurement, or None.
        n_chains: its chains.
    """
    if estimate is None or estimate.n_samples < FINAL_R_HAT_DRAWS * n_chains:
        return []
    if not estimate.r_hat > FINAL_R_HAT_LIMIT:
        return []
    return [
        f"R-hat of the final measurement is {estimate.r_hat:.3f}, above "
        f"{FINAL_R_HAT_LIMIT}: the chains do not agree, and the error bar is too "
        "small; raise sampler.n_sweeps or measure.n_samples"
    ]
