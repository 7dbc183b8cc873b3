"""Registered names, and all that the engine uses of the sibling packages.

The only door from the engine to the packages ``hamiltonians`` and ``ansatze``,
opened when a job is built and not before.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmc.base import Capacity, Key, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.factories import Factory, call, check_keys, parameters_of

#: Samplers and optimisers of a job: name -> what it is.
SAMPLERS: Mapping[str, str] = {
    "local": "Metropolis with single-site changes",
    "exchange": "Metropolis with exchanges along bonds; keeps total Sz",
    "mixed": "Metropolis with either and the Hamiltonian's own moves",
    "direct": "independent draws, where the ansatz offers them; no Markov chain",
    "independent": "Metropolis with proposals drawn from an earlier run",
    "full": "every configuration of a small space with its weight; no noise",
}
OPTIMIZERS: Mapping[str, str] = {
    "sr": "stochastic reconfiguration, dense or kernel form by shape",
    "spring": "stochastic reconfiguration with momentum (arXiv:2401.10190)",
    "march": "spring with a scale for every parameter (arXiv:2507.02644)",
    "adam": "Adam on the energy gradient",
    "sgd": "plain gradient descent",
}


def check_sibling(name: str) -> None:
    """Refuse a module of the user that hides a package of the solver.

    Raises:
        JobError: ``import name`` finds something else than our package.
    """
    home = Path(__file__).resolve().parents[1] / name / "__init__.py"
    loaded = sys.modules.get(name)
    spec = loaded.__spec__ if loaded else importlib.util.find_spec(name)
    origin = spec.origin if spec else None
    if origin is None or Path(origin).resolve() != home:
        what = f"{origin} hides" if origin else "nothing provides"
        raise JobError(
            f"{what} the solver's package {name!r}: rename your file (and name it in "
            'the job by path, as "my_model.py:build"), or reinstall nqs-vmc'
        )


def lattices() -> Mapping[str, Factory]:
    """Registered lattices: factory(size, periodic=..., ...) -> lattice."""
    check_sibling("hamiltonians")
    from hamiltonians.lattice_families import LATTICES

    return LATTICES


def models() -> Mapping[str, Factory]:
    """Registered models: factory(lattice, **couplings) -> operator."""
    check_sibling("hamiltonians")
    from hamiltonians.models import MODELS

    return MODELS


def ansatze() -> Mapping[str, Factory]:
    """Registered ansatze: factory(problem, **keys) -> `vmc.base.WaveFunction`."""
    check_sibling("ansatze")
    from ansatze import ANSATZE

    return ANSATZE


# ---- what the engine uses of the package hamiltonians --------------------------


def compile_operator(operator: Any, n_sites: int, **sector: Any) -> Any:
    """`hamiltonians.compile.compile_operator`."""
    from hamiltonians.compile import compile_operator

    return compile_operator(operator, n_sites, **sector)


def ground_energy_in(
    hamiltonian: Any,
    lattice: Any,
    momentum: Any,
    spin_flip: Any,
    point_group: str | None = None,
) -> float:
    """Lowest energy with given physical quantum numbers, by diagonalisation."""
    from hamiltonians.diagonalise import ground_states
    from hamiltonians.symmetric import symmetry_sector

    bare = _without_gauge(hamiltonian)
    sector = symmetry_sector(bare, lattice, momentum, spin_flip, point_group)
    return float(ground_states(bare, 1, symmetry=sector).energies[0])


def space_group(
    hamiltonian: Any, lattice: Any, momentum: Any, point_group: str | None
) -> tuple[Any, Any]:
    """Permutations (G, N) and physical characters (G,) of quantum numbers.

    Raises:
        JobError: they do not exist, or the Hamiltonian does not have them.
    """
    from hamiltonians.space_groups import space_group
    from hamiltonians.symmetric import check_invariant, numbers_in_words

    group = space_group(lattice, momentum, point_group)
    asked = numbers_in_words(momentum, point_group)
    check_invariant(_without_gauge(hamiltonian), group, asked)
    return group.perms, group.characters


def check_flip(hamiltonian: Any, spin_flip: int) -> None:
    """Refuse a parity under the spin flip that the Hamiltonian does not have."""
    from hamiltonians.symmetric import check_flip

    check_flip(hamiltonian, spin_flip)


def sector_dimension(
    hamiltonian: Any, lattice: Any, momentum: Any, spin_flip: Any, point_group: Any
) -> int:
    """Number of states with given physical quantum numbers, by listing all states."""
    from hamiltonians.matrix import SymmetricRows
    from hamiltonians.symmetric import symmetry_sector

    bare = _without_gauge(hamiltonian)
    sector = symmetry_sector(bare, lattice, momentum, spin_flip, point_group)
    return SymmetricRows(bare, sector).dim


def _without_gauge(hamiltonian: Any) -> Any:
    """The Hamiltonian in the physical frame."""
    if hamiltonian.signs is None:
        return hamiltonian
    return hamiltonian.with_signs(hamiltonian.signs)


def terms_to_dict(operator: Any, n_sites: int, total_sz: float | None) -> dict:
    """`hamiltonians.termfiles.terms_to_dict`: explicit Pauli terms."""
    from hamiltonians.termfiles import terms_to_dict

    return terms_to_dict(operator, n_sites, total_sz)


def find_sign_gauge(hamiltonian: Any) -> Any:
    """Site signs that make every off-diagonal element <= 0, or None."""
    from hamiltonians.gauge import find_sign_gauge

    return find_sign_gauge(hamiltonian)


def marshall_signs(hamiltonian: Any, edges: Any) -> Any:
    """Site signs of the two-sublattice rule; edges None takes the exchange graph."""
    from hamiltonians.gauge import marshall_signs

    return marshall_signs(hamiltonian, edges)


def load_terms(path: Path) -> tuple[Any, int, float | None]:
    """A terms file: operator, N, total_sz."""
    from hamiltonians.termfiles import load_terms

    return load_terms(path)


def ground_energy(hamiltonian: Any) -> float:
    """Ground energy by exact diagonalisation, without counting the states."""
    from hamiltonians.diagonalise import ground_states

    return float(ground_states(hamiltonian, 1, copies=False).energies[0])


def ground_level(hamiltonian: Any) -> tuple[float, int]:
    """Ground energy and number of ground states by exact diagonalisation."""
    from hamiltonians.diagonalise import ground_states

    levels = ground_states(hamiltonian, 1)
    return float(levels.energies[0]), levels.degeneracy


def exact_energy(
    model: str, lattice: Any, couplings: Mapping[str, Any], total_sz: float | None
) -> tuple[float, str] | None:
    """Ground energy of a registered model where a closed form is known."""
    from hamiltonians.exact import exact_energy

    return exact_energy(model, lattice, couplings, total_sz)


def spin_operators(dim: int) -> Any:
    """`hamiltonians.spin` for a site with so many states: Sx, Sz, Sp, ..."""
    from hamiltonians.operators import spin

    return spin((dim - 1) / 2)


def checked_lattice(reference: Any, lattice: Any) -> Any:
    """Refuse what a user's function returns if it is no lattice."""
    from hamiltonians.lattices import Lattice

    if not isinstance(lattice, Lattice):
        raise JobError(
            f"[lattice] {reference!r} returned a {type(lattice).__name__}; expected a "
            "hamiltonians.Lattice, as hamiltonians.from_graph makes one of a "
            "networkx.Graph"
        )
    return lattice


def checked_operator(
    reference: Any, operator: Any, section: str = "hamiltonian"
) -> Any:
    """Refuse what a user's function returns if it is no operator."""
    from hamiltonians.algebra import Operator

    if not isinstance(operator, Operator):
        raise JobError(
            f"[{section}] {reference!r} returned a {type(operator).__name__}; "
            "expected a hamiltonians.Operator, a sum of terms such as Sz(0) @ Sz(1)"
        )
    return operator


# ---- and of ansatze --------------------------------------------------------------


def check_ansatz_keys(
    reference: Any,
    factory: Factory,
    keys: Mapping[str, Any],
    *,
    section: str = "ansatz",
) -> None:
    """`vmc.factories.check_keys`, also of the tables in ``parts``.

    Raises:
        JobError: a key is unknown, missing or of the wrong kind.
    """
    check_keys(section, reference, factory, keys, filled=("problem",))
    known = ansatze()
    parts: Any = keys.get("parts", ()) if reference in known else ()
    for number, part in enumerate(parts):
        # Tables like [ansatz], inside it.
        name = str(part.get("name")) if isinstance(part, Mapping) else ""
        if name in known:
            rest = {k: v for k, v in part.items() if k not in ("name", "dtype")}
            inside = f"{section}.parts.{number}"
            check_ansatz_keys(name, known[name], rest, section=inside)


def ansatz_defaults(
    name: str, problem: Problem, keys: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys of a registered ansatz with everything that depends on the problem."""
    from ansatze import defaults

    return defaults(name, problem, keys)


def native_problem(name: str, problem: Problem, keys: Mapping[str, Any]) -> Problem:
    """The problem with the symmetries that a registered ansatz builds in itself."""
    from ansatze.symmetrized import native

    return native(name, problem, keys)


def without_symmetry(problem: Problem) -> Problem:
    """The problem without symmetries."""
    from ansatze.symmetrized import without_symmetry

    return without_symmetry(problem)


def projected(psi: WaveFunction, problem: Problem, has: Problem) -> WaveFunction:
    """psi with the symmetries of a problem, of which it has some; often psi itself."""
    if has is problem:
        return psi
    from ansatze.symmetrized import symmetrized

    return symmetrized(psi, problem, has)


def n_images(problem: Problem, has: Problem) -> int:
    """Evaluations of psi_0 per amplitude of `projected`."""
    from ansatze.symmetrized import elements

    return len(elements(problem, has).perms)


def ansatz_symmetries(
    name: str, problem: Problem, keys: Mapping[str, Any]
) -> frozenset[str]:
    """Which of "translations" and "spin_flip" a registered ansatz can honour."""
    from ansatze import symmetries

    return symmetries(name, problem, keys)


def ansatz_change(
    name: str,
    problem: Problem,
    old_keys: Mapping[str, Any],
    new_keys: Mapping[str, Any],
) -> str:
    """`ansatze.growth.change`: "none", "grow", "truncate" or "other"."""
    from ansatze.growth import change

    problem = native_problem(name, problem, old_keys)
    return change(name, problem, old_keys, new_keys)


def resized_params(
    name: str,
    problem: Problem,
    old_keys: Mapping[str, Any],
    new_keys: Mapping[str, Any],
    params: Params,
    key: Key,
) -> Params:
    """Parameters of other sizes: grown exactly, or truncated optimally."""
    from ansatze.growth import change, grow, truncate

    problem = native_problem(name, problem, old_keys)
    if change(name, problem, old_keys, new_keys) == "truncate":
        return truncate(name, problem, old_keys, new_keys, params).params
    return grow(name, problem, old_keys, new_keys, params, key)


def user_wavefunction(
    reference: Any, found: Any, folder: Path, problem: Problem, keys: Mapping[str, Any]
) -> WaveFunction:
    """A wave function from a user's function, flax class or flax module."""
    from vmc.wavefunction import from_module

    if not inspect.isfunction(found):
        return call(reference, from_module, folder, found, problem, **keys)
    check_ansatz_keys(reference, found, keys)
    taken, open_ended = parameters_of(found)
    first = {"problem": problem} if "problem" in taken or open_ended else {}
    made = call(reference, found, folder, **first, **keys)
    if isinstance(made, WaveFunction):
        return made
    return call(reference, from_module, folder, made, problem)


# ---- what the design tool uses of both packages ---------------------------------


def plan(hamiltonian: Any, k: int, memory_limit: int) -> Any:
    """`hamiltonians.diagonalise.plan`: method, dimension, n_bytes."""
    check_sibling("hamiltonians")
    from hamiltonians.diagonalise import plan

    return plan(hamiltonian, k, memory_limit=memory_limit)


def ground_states(hamiltonian: Any, k: int, memory_limit: int) -> Any:
    """`hamiltonians.diagonalise.ground_states`: energies, vectors, gap, degeneracy."""
    from hamiltonians.diagonalise import ground_states

    return ground_states(hamiltonian, k, memory_limit=memory_limit)


def to_sparse(hamiltonian: Any) -> Any:
    """`hamiltonians.diagonalise.to_sparse`."""
    from hamiltonians.diagonalise import to_sparse

    return to_sparse(hamiltonian)


def entanglement(space: Any, vector: np.ndarray, region: Sequence[int]) -> Any:
    """`hamiltonians.entropies.entanglement`: region, s1, s2, spectrum."""
    from hamiltonians.entropies import entanglement

    return entanglement(space, vector, region)


def site_order(problem: Problem, window: int) -> np.ndarray:
    """`ansatze.tree_order.site_order`: the site at each leaf of a tree, int (N,)."""
    check_sibling("ansatze")
    from ansatze.tree_order import site_order

    return site_order(problem, window)


def capacities(
    wavefunction: WaveFunction,
    regions: Sequence[Sequence[int]],
    local_dims: Sequence[int],
) -> list[Capacity]:
    """`ansatze.capacity.capacities`: bounds on ln of the Schmidt rank of every cut."""
    check_sibling("ansatze")
    from ansatze.capacity import capacities

    return capacities(wavefunction, regions, local_dims)
