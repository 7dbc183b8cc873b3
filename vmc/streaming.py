"""Statistics of Markov chains of any length in constant memory (host side, numpy).

`Stream` judges one series, the local energy, as `vmc.stats.estimate` does; `Blocks`
keeps the averages of many functions of the samples, from which anything that is a
function of averages follows with its error.

Both keep rows of equally many draws.  When the memory is full, neighbouring rows are
added and from then on a row covers twice as many draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vmc.stats import Estimate, Series, integrated_time, r_hat_of

#: Rows times chains that a stream keeps.
NUMBERS = 1 << 19
#: Chains from which on their spread alone gives the error.
MANY_CHAINS = 64
#: Blocks of all chains together, where there are few of them.
N_BLOCKS = 64
#: Standard errors by which the start of a series may differ from its end.
SETTLED = 4.0
#: Rows below which a drift cannot be judged.
JUDGED = 16
#: Groups beyond which chains are added up before a jackknife.
N_GROUPS = 1024
#: Numbers that one piece of a jackknife may fill.
PIECE = 1 << 21

#: Averages of functions (..., F), one array per kernel -> numbers (..., n).
Derived = Callable[[Sequence[Series]], Series]


class Averages(Protocol):
    """Averages of the features of some kernels, and what follows from them."""

    def evaluate(
        self, kernels: Sequence[str], function: Derived
    ) -> tuple[Series, Series]:
        """Values and standard errors of a function of averages, (n,) each."""
        ...


# ---- one series ------------------------------------------------------------------


class Stream:
    """The local energies of C chains, draw by draw.

    As long as fewer than ``numbers`` / C draws have come, `estimate` returns what
    `vmc.stats.estimate` returns for all of them; later, tau is that of rows, whose
    variance tells what happens within them.
    """

    def __init__(self, n_chains: int, numbers: int = NUMBERS) -> None:
        """Nothing has come yet.

        Args:
            n_chains: C.
            numbers: rows times chains to keep.
        """
        self._n_chains = n_chains
        capacity = max(2 * JUDGED, numbers // n_chains // 2 * 2)
        # Sums of x, x^2, y and y^2, where x is the real part without its shift.
        self._rows = np.zeros((capacity, 4, n_chains))
        self._n_rows = 0
        self._length = 1
        self._pending = np.zeros((4, n_chains))
        self._n_pending = 0
        self._shift = 0.0

    @property
    def n_draws(self) -> int:
        """Draws per chain so far."""
        return self._n_rows * self._length + self._n_pending

    def add(self, real: Series, imaginary: Series | None = None) -> None:
        """Further draws.

        Args:
            real: (n, C), of which the mean is wanted.
            imaginary: (n, C), counts for the variance only.
        """
        real = np.asarray(real, np.float64)
        if self.n_draws == 0 and len(real):
            self._shift = float(np.mean(real[0]))
        x = real - self._shift
        y = np.zeros_like(x) if imaginary is None else np.asarray(imaginary, float)
        for moments in np.stack([x, x * x, y, y * y], axis=1):
            self._pending += moments
            self._n_pending += 1
            if self._n_pending == self._length:
                self._rows[self._n_rows] = self._pending
                self._pending[:] = 0
                self._n_rows, self._n_pending = self._n_rows + 1, 0
                self._halve()

    def _halve(self) -> None:
        if self._n_rows == len(self._rows):
            half = len(self._rows) // 2
            self._rows[:half] = self._rows[0::2] + self._rows[1::2]
            self._n_rows, self._length = half, 2 * self._length

    def settled(self) -> int:
        """Draws at the start to leave out: 0, a quarter or half of all.

        The first of them without which the start (a quarter of what is left) and the
        end (half of it) differ by at most `SETTLED` standard errors.
        """
        if self._n_rows < JUDGED:
            return 0
        for skip in (0, self._n_rows // 4):
            if self._drift(skip) <= SETTLED:
                return skip * self._length
        return self._n_rows // 2 * self._length

    def _drift(self, skip: int) -> float:
        """Difference of start and end in standard errors."""
        x = self._rows[skip : self._n_rows, 0] / self._length
        n = len(x)
        start, end = x[: n // 4], x[n // 2 :]
        by_chain = np.mean(start, axis=0) - np.mean(end, axis=0)
        difference = float(np.mean(by_chain))
        if self._n_chains >= MANY_CHAINS:
            error = np.std(by_chain, ddof=1) / math.sqrt(self._n_chains)
        else:
            # Of the end: a drift would hide itself in the variance of the whole.
            each = np.var(end) * integrated_time(end) / self._n_chains
            error = math.sqrt(each * (1 / len(start) + 1 / len(end)))
        if error <= 1e-13 * max(abs(self._shift), abs(difference)):
            return 0.0
        return float(abs(difference) / error)

    def estimate(self, *, left_out: int = 0) -> Estimate:
        """Mean, error and diagnostics of the settled part.

        Args:
            left_out: draws that were discarded before, to be reported.
        """
        skip = self.settled()
        first = skip // self._length
        kept = self._rows[first : self._n_rows]
        n_draws = self.n_draws - skip
        chains = np.sum(kept, axis=0) + self._pending  # (4, C)
        n = n_draws * self._n_chains
        x, xx, y, yy = np.sum(chains, axis=1) / n
        spread = max(xx - x * x, 0.0)
        tau = self._tau(kept, x, spread)
        if self._n_chains >= MANY_CHAINS:
            means = chains[0] / n_draws
            error = float(np.std(means, ddof=1)) / math.sqrt(self._n_chains)
        else:
            error = math.sqrt(spread * tau / n)
        blocked, variance_error = self._blocked(kept, chains, n_draws, x)
        return Estimate(
            mean=float(x + self._shift),
            error=error,
            variance=float(spread + max(yy - y * y, 0.0)),
            tau=tau,
            r_hat=self._r_hat(kept, chains, n_draws),
            n_samples=n,
            ess=n / tau,
            blocked_error=blocked,
            variance_error=variance_error,
            burn_in=left_out + skip,
        )

    def _tau(self, kept: Series, mean: float, spread: float) -> float:
        """Integrated autocorrelation time in draws."""
        rows = kept[:, 0] / self._length
        tau = integrated_time(rows)
        if self._length == 1 or spread <= 0:
            return tau
        # The variance of a mean, from rows and from draws, is the same number.
        ratio = float(np.mean((rows - mean) ** 2)) / spread
        return max(tau * self._length * ratio, 1.0)

    def _r_hat(self, kept: Series, chains: Series, n_draws: int) -> float:
        half = len(kept) // 2
        n = half * self._length
        if n < 2:
            n, sums = n_draws, chains[:2]
        else:
            parts = kept[:half, :2], kept[half : 2 * half, :2]
            sums = np.concatenate([np.sum(part, axis=0) for part in parts], axis=1)
        if n < 2 or sums.shape[1] < 2:
            return math.nan
        means = sums[0] / n
        return r_hat_of(means, (sums[1] / n - means**2) * n / (n - 1), n)

    def _blocked(
        self, kept: Series, chains: Series, n_draws: int, mean: float
    ) -> tuple[float, float]:
        """Errors of the mean and of the variance, from the spread of long blocks."""
        if self._n_chains >= MANY_CHAINS:
            blocks, n = chains[None], n_draws
        else:
            wanted = -(-N_BLOCKS // self._n_chains)
            each = max(1, len(kept) // wanted)
            used = len(kept) // each * each
            blocks = kept[:used].reshape(-1, each, 4, self._n_chains).sum(axis=1)
            n = each * self._length
        x, xx, _, yy = np.moveaxis(blocks, 1, 0).reshape(4, -1) / n
        if len(x) < 4:
            return math.nan, math.nan
        squares = xx - 2 * mean * x + yy
        scale = math.sqrt(len(x))
        return (
            float(np.std(x, ddof=1)) / scale,
            float(np.std(squares, ddof=1)) / scale,
        )


# ---- many functions --------------------------------------------------------------


class Blocks:
    """Sums of the features of some kernels over chains and blocks of draws."""

    def __init__(self, n_chains: int, sizes: dict[str, int], unit: int) -> None:
        """Nothing has come yet.

        Args:
            n_chains: C.
            sizes: features of every kernel, by its name.
            unit: draws that usually come at a time.
        """
        self._slices = slices(sizes)
        self._fold = _fold(n_chains)
        self._n_groups = n_chains // self._fold
        few = n_chains < MANY_CHAINS
        wanted = 2 * -(-N_BLOCKS // n_chains) if few else 8
        shape = (max(8, wanted), sum(sizes.values()), self._n_groups)
        self._rows = np.zeros(shape)
        self._n_rows = 0
        self._unit = self._length = unit
        self._pending = np.zeros(shape[1:])
        self._n_pending = 0
        self._rest = np.zeros(shape[1:])
        self._n_rest = 0
        self._skip = 0

    def add(self, sums: Series, n: int) -> None:
        """Sums over n further draws, (F, C).

        Only the last ones may be fewer than ``unit``; they count for the mean alone.
        """
        folded = sums.reshape(len(sums), self._n_groups, self._fold).sum(axis=2)
        if n != self._unit:
            self._rest += folded
            self._n_rest += n
            return
        self._pending += folded
        self._n_pending += n
        if self._n_pending < self._length:
            return
        self._rows[self._n_rows] = self._pending
        self._pending[:] = 0
        self._n_rows, self._n_pending = self._n_rows + 1, 0
        if self._n_rows == len(self._rows):
            half = len(self._rows) // 2
            self._rows[:half] = self._rows[0::2] + self._rows[1::2]
            self._n_rows, self._length = half, 2 * self._length

    def leave_out(self, n_draws: int) -> None:
        """Leave out the draws at the start, in whole rows, from now on."""
        self._skip = min(-(-n_draws // self._length), max(self._n_rows - 1, 0))

    def evaluate(
        self, kernels: Sequence[str], function: Derived
    ) -> tuple[Series, Series]:
        """See `Averages`; by a jackknife over chains, or blocks of few chains.

        The value is free of the bias of first order in 1 / samples (Quenouille).
        With few chains, what correlation is left between blocks widens the error by
        Geyer's time, as for the energy.
        """
        parts = [self._slices[name] for name in kernels]
        rows = self._rows[self._skip : self._n_rows]
        rest = self._pending + self._rest
        n_rest = self._n_pending + self._n_rest
        total = np.sum(rows, axis=(0, 2)) + np.sum(rest, axis=1)
        n = (len(rows) * self._length + n_rest) * self._n_groups
        size = self._length
        if self._n_groups * self._fold >= MANY_CHAINS or len(rows) == 0:
            # Chains are whole: nothing is left over, and nothing correlated.
            size = len(rows) * self._length + n_rest
            rows, n_rest = (np.sum(rows, axis=0) + rest)[None], 0

        def of(sums: Series, count: int) -> Series:
            means = sums / (count * self._fold)
            return np.asarray(function([means[..., s] for s in parts]))

        with np.errstate(all="ignore"):
            centre = of(total, n)
            groups = np.moveaxis(rows, 1, 2).reshape(-1, len(total))  # (G, F)
            n_groups = len(groups)
            if n_groups < 4:
                return centre, np.full(centre.shape, math.nan)
            step = max(1, PIECE // max(groups.shape[1], centre.size, 1))
            pieces = [
                of(total - groups[i : i + step], n - size)
                for i in range(0, n_groups, step)
            ]
            # Groups cover all draws but the rest, which is in every value.
            weight = n / size
            pseudo = weight * centre - (weight - 1) * np.concatenate(pieces)
            errors = _spread(pseudo.reshape(len(rows), -1, centre.size))
            if n_rest:
                return centre, errors
            # What is of second order in the noise is all there is where a function is
            # stationary: its mean is the bias, its variance twice the square of that.
            values = np.mean(pseudo, axis=0)
            return values, np.sqrt(errors**2 + 2 * (values - centre) ** 2)


class Sums:
    """Averages over all configurations with their weights: no error."""

    def __init__(self, sizes: dict[str, int], means: Series) -> None:
        """Averages of all features.

        Args:
            sizes: features of every kernel, by its name.
            means: (F,).
        """
        self._slices = slices(sizes)
        self._means = means

    def evaluate(
        self, kernels: Sequence[str], function: Derived
    ) -> tuple[Series, Series]:
        """See `Averages`; the errors are 0."""
        with np.errstate(all="ignore"):
            values = function([self._means[self._slices[name]] for name in kernels])
        values = np.asarray(values)
        return values, np.zeros(values.shape)


def slices(sizes: dict[str, int]) -> dict[str, slice]:
    """Where the features of every kernel lie."""
    ends = np.cumsum([0, *sizes.values()]).tolist()
    return {
        name: slice(a, b) for name, a, b in zip(sizes, ends, ends[1:], strict=False)
    }


def _fold(n_chains: int) -> int:
    """Chains that are added up: as few as leave at most `N_GROUPS`."""
    fold = -(-n_chains // N_GROUPS)
    while n_chains % fold:
        fold += 1
    return fold if n_chains // fold >= MANY_CHAINS else 1


def _spread(pseudo: NDArray[Any]) -> Series:
    """Error of the mean of pseudo-values (rows, groups of a row, n): (n,)."""
    n = pseudo.shape[0] * pseudo.shape[1]
    error = np.std(pseudo, axis=(0, 1), ddof=1) / math.sqrt(n)
    if pseudo.shape[0] == 1:
        return error
    taus = [integrated_time(pseudo[:, :, k]) for k in range(pseudo.shape[2])]
    return error * np.sqrt(taus)
