"""Recommendations: monotone, within budget, and good for what they promise."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vmc
from vmc import registry
from vmc.design import design
from vmc.design_cuts import smaller_side
from vmc.design_families import (
    FAMILIES,
    Needs,
    channels_of,
    families_of,
    greedy_bonds,
    merge_rank,
    tree_tail,
)
from vmc.design_fixed_rank import exact_system, truncated_tree
from vmc.design_result import Design
from vmc.errors import JobError
from vmc.system import build_system

BONDS = ("convac", "ttn", "mps", "rac")


def job_of(model: str = "heisenberg", n: int = 8, **ansatz: Any) -> vmc.Job:
    keys = {"ansatz": ansatz} if ansatz else {}
    return vmc.Job(
        lattice={"name": "chain", "size": [n]}, hamiltonian={"name": model}, **keys
    )


@functools.cache
def found(
    target: float = 1e-3,
    budget: int | None = None,
    families: Sequence[str] = BONDS,
    model: str = "heisenberg",
    n: int = 8,
) -> Design:
    return design(
        job_of(model, n),
        target=target,
        budget=budget,
        families=families,
        calibrate=False,
        n_random=1,
    )


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [(2, 4, 4), (4, 16, 12), (4, 7, 9), (16, 8, 54), (8, 1, 8), (2, 1, 2), (1, 1, 1)],
)
def test_merge_rank(below, above, expected) -> None:
    """At least what the bonds need, at most what always suffices."""
    found = merge_rank(below, above)
    assert max(below, above) <= found <= max(below**2, above)
    assert found == max(expected, above, below)


def test_the_greedy_path_falls() -> None:
    """Every step lowers the discarded weight; its end holds the state."""
    rng = np.random.default_rng(3)
    spectra = [np.sort(rng.dirichlet(np.ones(n)))[::-1] for n in (4, 4, 16, 16, 64)]
    levels = ((spectra[0], spectra[1]), (spectra[2], spectra[3]), (spectra[4],))
    needs = Needs((2,) * 16, levels, (), (), 1.0, True)
    path = greedy_bonds(needs)
    losses = [tree_tail(needs, chis) for chis in path]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1e-12
    assert path[0] == (1, 1, 1) and path[-1] == (4, 16, 64)
    assert channels_of((4, 16, 64), 2)[-1] == 64


def test_a_smaller_target_is_never_cheaper() -> None:
    for family in BONDS:
        sizes, errors = [], []
        for target in (1e-1, 1e-2, 1e-3, 1e-4):
            one = next(c for c in found(target).candidates if c.family == family)
            assert one.reaches and one.predicted is not None
            assert one.predicted <= target
            sizes.append(one.n_parameters)
            errors.append(one.predicted)
        assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
        assert errors == sorted(errors, reverse=True)


def test_parameters_are_those_of_the_factory() -> None:
    for one in found().candidates:
        built = vmc.build(job_of(name=one.family, **one.keys))
        assert built.vmc.n_parameters == one.n_parameters


@pytest.mark.parametrize("budget", [100])
def test_a_budget_is_kept_and_ranked(budget) -> None:
    best = found(1e-4, budget).candidates
    assert all(one.n_parameters <= budget for one in best)
    assert best or budget < 50
    reaching = [one for one in best if one.reaches]
    missing = [one for one in best if not one.reaches]
    assert list(best) == reaching + missing
    sizes = [one.n_parameters for one in reaching]
    errors = [one.predicted or 0.0 for one in missing]
    assert sizes == sorted(sizes) and errors == sorted(errors)
    for one in best:  # more is never worse
        same = [c for c in found(1e-4).candidates if c.family == one.family]
        assert one.predicted is not None and same[0].predicted is not None
        assert one.predicted >= same[0].predicted


@pytest.mark.parametrize("model", ["heisenberg", "tfim"])
def test_a_recommended_tree_holds_what_was_promised(model) -> None:
    """The ground state truncated to the recommended bond is within the target."""
    for target in (1e-2, 1e-3):
        one = found(target, None, ("ttn",), model).candidates[0]
        system = build_system(job_of(model))
        required = found(target, None, ("ttn",), model).required
        assert required.vector is not None and required.energy is not None
        exact = exact_system(system, required.vector, required.energy)
        bond = one.keys["bond_dimension"]
        tree = truncated_tree(exact, range(8), [2, bond, bond])
        error = (tree.energy - required.energy) / abs(required.energy)
        assert error <= 2 * target
        # Not from the floor: it alone would allow a smaller bond.
        assert one.certificate.infidelity is not None
        scale = error * abs(required.energy)
        if one.certificate.energy is not None:
            assert one.certificate.energy <= scale + 1e-9


def test_the_certificate_is_below_every_prediction() -> None:
    for target in (1e-1, 1e-2, 1e-3):
        for one in found(target).candidates:
            if one.certificate.energy is None or one.predicted is None:
                continue
            energy = found(target).required.energy
            assert energy is not None
            assert one.certificate.energy <= one.predicted * abs(energy) + 1e-12


def test_the_job_s_own_ansatz_is_judged() -> None:
    job = job_of(name="convac", channels=[2, 2, 2])
    one = design(job, families=["mps"], calibrate=False, n_random=0)
    assert one.architecture == "convac"
    half = next(
        v
        for c, v in zip(one.required.cuts, one.verdicts, strict=True)
        if len(c.region) == 4 and c.kind == "contiguous"
    )
    assert half.status == "limited" and half.capacity is not None
    assert half.capacity.ln_upper == pytest.approx(np.log(2))
    assert half.capacity.cut
    assert one.certificate.energy is not None and one.certificate.energy > 0
    assert len(one.tree) == 3 and len(one.tree[1]) == 4


MODULE = """
import flax.linen as nn
import jax.numpy as jnp


class Net(nn.Module):
    @nn.compact
    def __call__(self, sigma):
        return nn.Dense(1)(sigma.astype(jnp.float64))[..., 0]
"""


def test_an_ansatz_that_says_nothing_is_trivial(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODULE)
    tables = job_of().to_dict() | {"ansatz": {"name": "net.py:Net"}}
    job = vmc.Job.from_dict(tables, folder=tmp_path)
    one = design(job, families=["mps"], calibrate=False, n_random=0)
    assert {v.status for v in one.verdicts} == {"trivial"}
    assert {v.capacity.method for v in one.verdicts if v.capacity} == {"trivial"}
    assert one.certificate.infidelity == 0


def test_a_random_ring_of_the_user(tmp_path: Path) -> None:
    """No lattice, no symmetry: weights are not shared, nothing is left out."""
    (tmp_path / "bonds.py").write_text(
        "from hamiltonians import Operator, Sm, Sp, Sz\n\n\n"
        "def build(couplings):\n"
        "    n = len(couplings)\n"
        "    def bond(i, j):\n"
        "        return 0.5 * (Sp(i) @ Sm(j) + Sm(i) @ Sp(j)) + Sz(i) @ Sz(j)\n"
        "    return Operator.sum(\n"
        "        c * bond(i, (i + 1) % n) for i, c in enumerate(couplings)\n"
        "    )\n"
    )
    couplings = [0.4, 1.3, 0.9, 1.6, 0.5, 1.1, 0.7, 1.45]
    keys = {"name": "bonds.py:build", "couplings": couplings}
    job = vmc.Job.from_dict({"hamiltonian": keys}, folder=tmp_path)
    options: dict[str, Any] = {"calibrate": False, "n_random": 0, "target": 1e-2}
    one = design(job, families=["convac"], **options)
    best = one.recommendation
    assert best is not None and best.keys["sharing"] == "none" and best.reaches
    regions = {c.region for c in one.required.cuts}
    assert {smaller_side(tuple(range(n)), 8) for n in range(1, 8)} <= regions
    # Strong bonds 1, 3, 5, 7 pair (1 2), (3 4), (5 6), (7 0): the tree finds them.
    assert one.geometry is not None
    assert one.geometry.cost < one.geometry.contiguous_cost - 0.5
    assert {frozenset(p) for p in one.geometry.pairs[0]} == {
        frozenset(p) for p in [(1, 2), (3, 4), (5, 6), (0, 7)]
    }
    # So does the job, whose circuit needs fewer channels for it.
    text = one.job_toml()
    assert text is not None
    tables = tomllib.loads(text)
    assert tables["ansatz"]["site_order"] == list(one.geometry.order)
    built = vmc.build(vmc.Job.from_dict(tables, folder=tmp_path))
    assert built.vmc.n_parameters == best.n_parameters
    pair = (1, 2)
    held = [v for v in best.verdicts if v.region in (pair, (0, 3, 4, 5, 6, 7))]
    assert held and held[0].status in ("ok", "trivial")
    plain = vmc.Job.from_dict(
        {"hamiltonian": keys}
        | {"ansatz": {**best.ansatz, "site_order": list(range(8))}},
        folder=tmp_path,
    )
    other = design(plain, families=["mps"], **options)
    limited = sum(v.free_floor or 0.0 for v in other.verdicts)
    assert limited > 10 * sum(v.free_floor or 0.0 for v in best.verdicts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ["convak"]}, "did you mean 'convac'"),
        ({"families": ["jastrow"]}, "cannot be recommended; known"),
        ({"target": 2.0}, "between 0 and 1"),
        ({"budget": 0}, "a number of parameters is positive"),
        ({"regions": [[0, 8]]}, "site 8 is outside"),
        ({"regions": [[]]}, "leaves nothing on one side"),
        ({"regions": [list(range(8))]}, "leaves nothing on one side"),
        ({"method": "dmrg"}, "not one of auto, exact"),
        ({"memory_limit": 1000, "method": "exact"}, "GiB"),
    ],
)
def test_what_makes_no_sense(options, message) -> None:
    with pytest.raises(JobError, match=message):
        design(job_of(), **{"families": ["mps"], "calibrate": False, **options})


@pytest.mark.slow
def test_every_family_is_registered_and_builds() -> None:
    """The ladders use keys that the factories know."""
    known = families_of(list(FAMILIES), registry.ansatze())
    assert {f.name for f in families_of(None, registry.ansatze())} >= {"convac", "mps"}
    one = (np.ones(1),)
    needs = Needs((2,) * 8, (one, one), one, one, 1.0, True)
    for family in known:
        assert family is FAMILIES[family.name]
        rung = family.rungs(needs)[0]
        assert vmc.build(job_of(name=family.name, **rung.keys)).vmc.n_parameters > 0


@pytest.mark.slow
def test_a_family_without_bonds_is_tried_on_a_small_lattice() -> None:
    """An RBM of the recommended width reaches the target that it was chosen for."""
    one = design(job_of("tfim", 10), target=1e-3, families=["rbm"], n_random=0)
    best = one.recommendation
    assert best is not None and best.reaches and "training on 10 sites" in best.basis
    job = vmc.Job(**job_of("tfim", 10).to_dict() | {"ansatz": best.ansatz})
    steps = {"sampler": {"name": "full"}, "run": {"n_steps": 200}}
    assert vmc.run(job.replace(steps)).report["relative_error"] <= 1e-3
