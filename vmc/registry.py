"""Names to factories: registered ones, and "file.py:name" for a user's own.

The only door from the engine to the packages ``hamiltonians`` and ``ansatze``,
opened when a job is built and not before.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from vmc.base import Key, Params, Problem, WaveFunction
from vmc.errors import JobError
from vmc.jobfile import suggest

Factory = Callable[..., Any]

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


def is_user_code(reference: Any) -> bool:
    """Whether a name of the job is a path or a function, not a registered name."""
    return (
        not isinstance(reference, str)
        or ".py:" in reference
        or (reference.endswith(".py"))
    )


def find(
    kind: str, table: Mapping[str, Factory], reference: Any, folder: Path
) -> Factory:
    """What a name of the job stands for.

    Args:
        kind: for messages, as "lattice".
        table: registered names.
        reference: a registered name, "file.py:name", or the object itself.
        folder: where a relative path starts.

    Raises:
        JobError: there is no such name or file, or the file raises.
    """
    if not isinstance(reference, str):
        return reference
    if is_user_code(reference):
        return load_object(reference, folder)
    if reference not in table:
        raise JobError(
            f"[{kind}] name = {reference!r} is not registered"
            f"{suggest(reference, table)} (`vmc list` shows all; your own is "
            '"file.py:name")'
        )
    return table[reference]


def user_file(reference: str, folder: Path) -> Path:
    """Path of the file in "file.py:name"."""
    return (folder / reference.rpartition(":")[0]).resolve()


def load_object(reference: str, folder: Path) -> Any:
    """The object that "file.py:name" names.

    Raises:
        JobError: the file is missing, raises (its own traceback is in the message),
            or has no such name.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not name.isidentifier():
        raise JobError(
            f'{reference!r}: expected "file.py:name", the name of a function or class '
            "in the file"
        )
    path = user_file(reference, folder)
    if not path.is_file():
        near = suggest(path.name, [p.name for p in path.parent.glob("*.py")])
        raise JobError(
            f"{reference!r}: there is no file {path} (paths start at the job file)"
            f"{near}"
        )
    module = _load_module(path, reference)
    if name not in vars(module):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise JobError(f"{path} defines no {name!r}{suggest(name, public)}")
    return vars(module)[name]


def _load_module(path: Path, reference: str) -> ModuleType:
    name = f"vmc_user_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The file may import its neighbours; at the end, so that they hide nothing.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # Registered first: dataclasses and flax look up the module of a class.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise JobError(failure(reference, error, path)) from error
    return module


def call(
    reference: Any, factory: Factory, folder: Path, *args: Any, **keys: Any
) -> Any:
    """Call a factory; what a user's own raises is shown with its own traceback.

    Raises:
        JobError: the call failed.
    """
    if not is_user_code(reference):
        return factory(*args, **keys)
    try:
        return factory(*args, **keys)
    except (Exception, SystemExit) as error:
        path = user_file(reference, folder) if isinstance(reference, str) else None
        raise JobError(failure(reference, error, path)) from error


def failure(reference: Any, error: BaseException, path: Path | None) -> str:
    """A message with the part of the traceback that the user wrote."""
    stack = traceback.extract_tb(error.__traceback__)
    own = [f for f in stack if path is None or Path(f.filename) == path]
    start = stack.index(own[0]) if own else len(stack)
    lines = traceback.format_list(stack[start:])
    lines += traceback.format_exception_only(error)
    head = "Traceback (most recent call last):\n" if stack[start:] else ""
    return f"{reference!r} raised an error:\n{head}{''.join(lines).rstrip()}"


def parameters_of(
    factory: Factory, filled: Sequence[str] = ()
) -> tuple[dict[str, inspect.Parameter], bool]:
    """Keyword parameters of a factory, and whether it takes any others.

    Args:
        factory: function or class.
        filled: names of parameters that the caller fills itself.
    """
    found: dict[str, inspect.Parameter] = {}
    open_ended = False
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            if name not in filled:
                found[name] = parameter
    return found, open_ended


def check_keys(
    section: str,
    reference: Any,
    factory: Factory,
    keys: Mapping[str, Any],
    *,
    filled: Sequence[str] = (),
) -> None:
    """Refuse keys that a factory does not take, or that it lacks.

    Args:
        section: of the job file, as "ansatz".
        reference: how the job names the factory.
        factory: its keyword parameters are the keys of the section.
        keys: keys of the job file.
        filled: names of parameters that the caller fills itself.

    Raises:
        JobError: a key is unknown, missing or of the wrong kind.
    """
    parameters, open_ended = parameters_of(factory, filled)
    for key in keys:
        if key not in parameters and not open_ended:
            known = suggest(key, parameters) or "; it takes no keys"
            raise JobError(f"[{section}] unknown key {key!r} for {reference!r}{known}")
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in keys:
            raise JobError(f"[{section}] {reference!r} needs the key {key!r}")
    _check_kinds(section, factory, keys)
    nested = section.startswith("ansatz") and reference in ansatze()
    parts: Any = keys.get("parts", ()) if nested else ()
    for number, part in enumerate(parts):
        # Tables like [ansatz], inside it.
        name = str(part.get("name")) if isinstance(part, Mapping) else ""
        if name in ansatze():
            rest = {k: v for k, v in part.items() if k not in ("name", "dtype")}
            inside = f"{section}.parts.{number}"
            check_keys(inside, name, ansatze()[name], rest, filled=filled)


def _check_kinds(section: str, factory: Factory, keys: Mapping[str, Any]) -> None:
    """Compare plain annotations (numbers, texts, lists) with the values given."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target)
    except (NameError, TypeError):
        return  # annotations that only a type checker can read
    for key, value in keys.items():
        if key not in hints:
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=True)
        except PydanticUserError:
            continue
        except ValidationError:
            kind = inspect.formatannotation(hints[key])
            raise JobError(f"[{section}] {key} = {value!r}: expected {kind}") from None


def defaults_of(factory: Factory) -> dict[str, Any]:
    """Default values of a factory's keys, apart from None."""
    parameters, _ = parameters_of(factory)
    empty = (inspect.Parameter.empty, None)
    return {k: p.default for k, p in parameters.items() if p.default not in empty}


def list_table(table: Mapping[str, Factory], filled: Sequence[str]) -> dict[str, Any]:
    """Names with their keys and first docstring lines, for `vmc list`."""
    listed: dict[str, Any] = {}
    for name, factory in table.items():
        parameters, _ = parameters_of(factory, filled)
        keys = {
            key: None if p.default is inspect.Parameter.empty else p.default
            for key, p in parameters.items()
        }
        summary = (inspect.getdoc(factory) or "").partition("\n")[0]
        listed[name] = {"summary": summary, "keys": keys}
    return listed


# ---- what the engine uses of the package hamiltonians --------------------------


def compile_operator(operator: Any, n_sites: int, **sector: Any) -> Any:
    """`hamiltonians.compile.compile_operator`."""
    from hamiltonians.compile import compile_operator

    return compile_operator(operator, n_sites, **sector)


def ground_energy_in(
    hamiltonian: Any, lattice: Any, momentum: Any, spin_flip: Any
) -> float:
    """Lowest energy with given physical quantum numbers, by diagonalisation."""
    from hamiltonians.diagonalise import ground_states
    from hamiltonians.symmetric import symmetry_sector

    sector = symmetry_sector(hamiltonian, lattice, momentum, spin_flip)
    return float(ground_states(hamiltonian, 1, symmetry=sector).energies[0])


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


def ground_energies(hamiltonian: Any, k: int) -> Any:
    """The k lowest energies by exact diagonalisation, lowest first."""
    from hamiltonians.diagonalise import ground_states

    return ground_states(hamiltonian, k).energies[:k]


def exact_energy(
    model: str, lattice: Any, couplings: Mapping[str, Any], total_sz: float | None
) -> tuple[float, str] | None:
    """Ground energy of a registered model where a closed form is known."""
    from hamiltonians.exact import exact_energy

    return exact_energy(model, lattice, couplings, total_sz)


def checked_lattice(reference: Any, lattice: Any) -> Any:
    """Refuse what a user's function returns if it is no lattice."""
    from hamiltonians.lattices import Lattice

    if not isinstance(lattice, Lattice):
        raise JobError(
            f"[lattice] {reference!r} returned a {type(lattice).__name__}; expected a "
            "hamiltonians.Lattice"
        )
    return lattice


def checked_operator(reference: Any, operator: Any) -> Any:
    """Refuse what a user's function returns if it is no operator."""
    from hamiltonians.algebra import Operator

    if not isinstance(operator, Operator):
        raise JobError(
            f"[hamiltonian] {reference!r} returned a {type(operator).__name__}; "
            "expected a hamiltonians.Operator, a sum of terms such as Sz(0) @ Sz(1)"
        )
    return operator


# ---- and of ansatze --------------------------------------------------------------


def ansatz_defaults(
    name: str, problem: Problem, keys: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys of a registered ansatz with everything that depends on the problem."""
    from ansatze import defaults

    return defaults(name, problem, keys)


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
    check_keys("ansatz", reference, found, keys, filled=("problem",))
    taken, open_ended = parameters_of(found)
    first = {"problem": problem} if "problem" in taken or open_ended else {}
    made = call(reference, found, folder, **first, **keys)
    if isinstance(made, WaveFunction):
        return made
    return call(reference, from_module, folder, made, problem)
