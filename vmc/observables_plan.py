"""A plan of what to measure: kernels, each once, and what makes tables of averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from vmc import registry
from vmc.assembly import Built
from vmc.base import Key, Params
from vmc.errors import JobError
from vmc.observables import Kernel
from vmc.observables_operators import Operators, stacked
from vmc.stats import Estimate, Series
from vmc.streaming import Averages

#: Columns of a result: labels first, then "mean" and "error", all equally long.
Columns: TypeAlias = dict[str, list[Any]]


class Found(NamedTuple):
    """What a measurement found, for those who make tables of it.

    Attributes:
        energy: the total energy.
        averages: of the kernels.
        samples: int8 (n, C, N), see `vmc.measurement.Measured`.
        params: parameters of psi.
        key: for random numbers beyond those of the samples.
    """

    energy: Estimate
    averages: Averages
    samples: np.ndarray | None
    params: Params
    key: Key


Finish: TypeAlias = Callable[[Found], Columns]


@dataclasses.dataclass
class Plan:
    """What has to be averaged for some observables, each kernel once.

    Attributes:
        built: the objects of the job.
        kernels: by name.
        finish: by the text of the request, what makes its table.
        keeps_samples: whether configurations themselves are needed.
    """

    built: Built
    kernels: dict[str, Kernel] = dataclasses.field(default_factory=dict)
    finish: dict[str, Finish] = dataclasses.field(default_factory=dict)
    keeps_samples: bool = False

    @property
    def space(self) -> Any:
        """The configurations."""
        return self.built.hamiltonian.space

    @property
    def signs(self) -> np.ndarray:
        """The sign gauge of psi, int (N,)."""
        signs = self.built.hamiltonian.signs
        n = self.built.n_sites
        return np.ones(n, int) if signs is None else np.asarray(signs, int)

    def lattice(self, name: str) -> Any:
        """The lattice, or why there is none.

        Raises:
            JobError: the job has none.
        """
        if self.built.system.lattice is None:
            raise JobError(
                f"observable {name!r} needs positions of the sites, but the job has "
                "no [lattice]: add one, or measure an operator of your own "
                '("file.py:name")'
            )
        return self.built.system.lattice

    def compiled(self, operators: Iterable[Any], name: str) -> Operators:
        """Operators in the free space and the sign gauge of psi.

        Raises:
            JobError: an operator is not Hermitian, or acts on other spins.
        """
        space, signs = self.space, self.built.hamiltonian.signs
        tables = []
        for operator in operators:
            try:
                table = registry.compile_operator(
                    operator, space.n_sites, local_dims=space.local_dims, signs=signs
                )
            except JobError as error:
                text = str(error).replace("the Hamiltonian", "the operator")
                raise JobError(f"observable {name!r}: {text}") from None
            tables.append(table)
        return stacked(tables)

    def once(self, name: str, make: Callable[[], Kernel]) -> str:
        """The name of a kernel that is made when it is first needed."""
        if name not in self.kernels:
            self.kernels[name] = make()
        return name


def table(labels: Columns, values: Series, errors: Series) -> Columns:
    """Columns of labels with means and errors; numbers that are none become None."""
    return labels | {"mean": numbers(values), "error": numbers(errors)}


def numbers(values: Series) -> list[float | None]:
    """JSON numbers."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values).tolist()]
