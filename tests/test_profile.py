"""Work is counted as formulas say, and the parts of a step together are the step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import Mesh

import vmc
import vmc.profile
from tests.cli.conftest import TINY, invoke
from vmc.bench_cell import _parts as parts_of_run
from vmc.distributed import BY_WALKER, compiled
from vmc.flops import Cost, count
from vmc.profile_parts import Part, Parts

N = 12


def square(dtype: Any = float, *batch: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*batch, N, N), dtype)


def power(x: Array, k: int) -> Array:
    """k products of matrices in a scan, each followed by N^2 exponentials."""
    return lax.scan(lambda y, _: (jnp.exp(y @ x), None), x, length=k)[0]


def two_loops(x: Array) -> Array:
    """10 products; the inner loop's length depends on the outer one's counter."""

    def outer(c: Array, x: Array) -> Array:
        stop = jnp.minimum((c + 1) * 4, 10)
        return lax.fori_loop(c * 4, stop, lambda i, x: x @ x, x)

    return lax.fori_loop(0, 3, outer, x)


@jax.custom_jvp
def doubled(x: Array) -> Array:
    return x + x


doubled.defjvps(lambda tangent, out, x: 2 * tangent)


@pytest.mark.parametrize(
    ("function", "dtype", "flops"),
    [
        (lambda x: x @ x, float, 2 * N**3),
        (lambda x: x @ x, complex, 8 * N**3),
        (lambda x: x[:, :5] @ x[:5], float, 2 * N**2 * 5),
        (lambda x: power(x, 7), float, 7 * 2 * N**3),
        (jax.jit(lambda x: lax.map(lambda r: r @ x, x)), float, 2 * N**3),
        (two_loops, float, 10 * 2 * N**3),
        (lambda x: lax.linalg.cholesky(x, symmetrize_input=False), float, N**3 / 3),
        (
            lambda x: lax.linalg.cholesky(x, symmetrize_input=False),
            complex,
            4 * N**3 / 3,
        ),
        (lambda x: lax.linalg.triangular_solve(x, x), float, N**3),
        (
            lambda x: lax.linalg.eigh(x, symmetrize_input=False)[0],
            complex,
            4 * 9 * N**3,
        ),
        (lambda x: x * x, float, N**2),
        (lambda x: x * x, complex, 6 * N**2),
        (lambda x: x + x - 1, complex, 4 * N**2),
        (lambda x: x**3 / x, float, 3 * N**2),
        (jnp.sum, float, N**2 - 1),
        (lambda x: jnp.cumsum(x, axis=0), complex, 2 * N**2),
        (lambda x: x.at[:, 0].add(1.0), float, N),
        (doubled, float, N**2),
        (jax.checkpoint(lambda x: x + x), float, N**2),
        (lambda x: jnp.where(x > 0, -x, x.T), float, 0),
        (lambda x: (x @ x, x + x)[1], float, N**2),
    ],
)
def test_operations_follow_closed_formulas(
    function: Callable[[Array], Any], dtype: Any, flops: float
) -> None:
    cost = count(function, square(dtype))
    assert cost.flops == pytest.approx(flops, rel=1e-12) and not cost.unknown


def test_batches_convolutions_and_solves_of_general_matrices() -> None:
    assert count(jnp.matmul, square(float, 3), square(float, 3)).flops == 6 * N**3
    image, kernel = jnp.zeros((2, 3, N, N)), jnp.zeros((5, 3, 2, 2))
    cost = count(lambda x, k: lax.conv(x, k, (1, 1), "SAME"), image, kernel)
    assert cost.flops == 2 * (2 * 5 * N**2) * (3 * 2 * 2)
    solve = count(jnp.linalg.solve, square(), square())
    assert solve.flops == pytest.approx(2 / 3 * N**3 + 2 * N**3)


def test_transcendental_functions_are_counted_apart() -> None:
    cost = count(lambda x: jnp.exp(x) + jnp.abs(x), square(complex))
    assert cost.transcendentals == 2 * N**2 and cost.flops == 2 * N**2
    assert count(lambda x: power(x, 7), square()).transcendentals == 7 * N**2


def test_conditions_count_one_branch() -> None:
    def either(x: Array) -> Array:
        return lax.cond(x[0, 0] > 0, lambda x: x @ x, lambda x: x + x, x)

    assert count(either, square()).flops == 2 * N**3
    assert count(either, square(), branch="smaller").flops == N**2


def test_loops_of_unknown_length_are_unknown() -> None:
    def until(x: Array) -> Array:
        return lax.while_loop(lambda y: jnp.max(y) < 1e9, lambda y: y @ x, x)

    cost = count(lambda x: until(x) + x, square())
    assert len(cost.unknown) == 1 and cost.flops == N**2
    n = jax.ShapeDtypeStruct((), jnp.int32)
    late = count(lambda x, n: lax.fori_loop(0, n, lambda i, y: y @ x, x), square(), n)
    assert late.unknown and late.flops == 0
    counted = count(lambda n: lax.fori_loop(0, n, lambda i, k: k + i, n), n)
    assert counted == Cost(bytes=counted.bytes)  # integers only: nothing is unknown

    def foreign(x: Array) -> Array:
        return jax.pure_callback(lambda x: x, square(), x)

    assert count(foreign, square()).unknown


def test_bytes_of_loops_are_what_their_bodies_touch() -> None:
    word, k = 8, 7

    def fill(x: Array) -> Array:
        """Row by row in place: one row read, one written."""
        return lax.fori_loop(0, k, lambda i, y: y.at[i].set(2 * x[i]), x)

    rows = count(fill, square()).bytes
    assert rows == pytest.approx(k * 2 * N * word, rel=0.2)  # and the counter
    assert count(lambda x: x @ x.T, square()).bytes == 3 * N**2 * word
    steps = count(lambda x: power(x, k), square()).bytes
    assert steps == pytest.approx(k * 3 * N**2 * word)


def test_a_step_that_is_not_known_in_parts_is_refused_before_it_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = {"optimizer": {"name": "march"}, "sampler": {"n_samples": 64}}
    lattice, hamiltonian = {"name": "chain", "size": [8]}, {"name": "tfim"}
    job = vmc.Job(lattice=lattice, hamiltonian=hamiltonian, ansatz={"name": "rbm"})
    built = vmc.build(job.replace(keys))
    with pytest.raises(vmc.JobError, match="march are not profiled"):
        vmc.profile.profile(built, cast(Any, None))
    # In a suite that asks for the parts the cell is good without them.
    run = SimpleNamespace(built=built, state=None)
    assert parts_of_run(cast(Any, run)) is None
    assert "no times of the parts of a step: the parts" in capsys.readouterr().err


def test_all_devices_count(mesh_of: Callable[[int], Mesh]) -> None:
    program = compiled(lambda x: x @ x, mesh_of(4), (BY_WALKER,), BY_WALKER)
    assert count(program.program, jnp.zeros((4 * N, N))).flops == 4 * 2 * N**3


def parts_of_a_step(**sections: Any) -> tuple[list[Part], Parts]:
    """Check that the parts do what the driver does; they, and all of them."""
    lattice = {"name": "chain", "size": [6]}
    sections = {"lattice": lattice, "sampler": {"n_chains": 32}} | sections
    sections["sampler"] = {"n_samples": 64, "burn_in": 0} | sections["sampler"]
    built = vmc.build(vmc.Job(**sections))
    state, _ = built.vmc.advance(built.vmc.init(), 1)
    after, _ = built.vmc.advance(state, 1)
    parts, seen = Parts(built, state), []
    params = parts.run(lambda part, _: seen.append(part))
    moved = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), after.params, state.params)
    # The shift of a step is kept in the precision of the parameters.
    atol = 1e-5 if built.job.precision != "float64" else 1e-10
    for x, y, size in zip(*map(jax.tree.leaves, (params, after.params, moved))):
        np.testing.assert_allclose(x, y, rtol=0, atol=atol * size + 1e-15)
        assert size > 0
    function, args = parts.whole()
    whole = count(function, *args, branch="smaller")
    each = [count(part.call, *part.args, branch="smaller") for part in seen]
    assert sum(c.flops for c in each) == pytest.approx(whole.flops, rel=0.05)
    together = sum(c.transcendentals for c in each)
    assert together == pytest.approx(whole.transcendentals, rel=0.1)
    return seen, parts


SR = {"name": "sr", "diag_shift": 1e-3}
SPRING = {"name": "spring", "diag_shift": 1e-3}
REAL = {"hamiltonian": {"name": "tfim"}, "ansatz": {"name": "rbm", "alpha": 1}}
MANY = REAL | {"ansatz": {"name": "rbm", "alpha": 2, "symmetry": "none"}}
COMPLEX = {
    "hamiltonian": {"name": "heisenberg"},
    "ansatz": {"name": "rbm", "alpha": 2, "dtype": "complex", "symmetry": "none"},
}
WIDE = COMPLEX | {
    "ansatz": {"name": "mlp", "features": [24], "dtype": "complex", "symmetry": "none"}
}


def test_the_parts_are_the_step() -> None:
    seen, parts = parts_of_a_step(**MANY, optimizer=SPRING)
    names = ["sampling", "local energies", "scores and matrix", "solve", "update"]
    assert [part.name for part in seen] == names and parts.form == "kernel"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "form"),
    [
        (REAL | {"optimizer": SPRING}, "dense"),
        (COMPLEX | {"optimizer": SPRING}, "kernel"),
        (COMPLEX | {"optimizer": SR | {"solver": "eigh"}}, "kernel"),
        (WIDE | {"optimizer": SR}, "kernel"),
        (REAL | {"optimizer": SR, "precision": "mixed"}, "dense"),
        (REAL | {"optimizer": SR, "sampler": {"name": "full"}}, "dense"),
        (REAL | {"optimizer": {"name": "sgd"}}, None),
        (COMPLEX | {"optimizer": {"name": "adam"}, "precision": "float32"}, None),
    ],
)
def test_the_parts_are_the_step_of_other_jobs(job: dict, form: str | None) -> None:
    assert parts_of_a_step(**job)[1].form == form


@pytest.fixture
def job_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A tiny job; the limits of the machine are measured on small arrays."""
    monkeypatch.setattr(vmc.profile, "TRIAD_BYTES", {"cpu": 2**20})
    monkeypatch.setattr(vmc.profile, "LIMIT_SECONDS", 1e-3)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "none of the user's")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.toml"
    path.write_text(TINY)
    return path


def test_adam_has_a_gradient_and_no_solve(job_file: Path) -> None:
    outcome = invoke(
        *("profile", job_file, "--set", "optimizer.name=adam"),
        *("--set", "sampler.burn_in=0"),
        *("--steps", 2, "--json"),
    )
    assert outcome.code == 0, outcome.err
    found = outcome.json
    names = [part["name"] for part in found["parts"]]
    assert names == ["sampling", "local energies", "gradient", "update"]
    assert found["form"] is None and found["n_devices"] == 4
    assert found["step"]["n_steps"] == 2 and found["step"]["ms"] > 0
    for part in [*found["parts"], found["step"]]:
        assert part["unknown"] == [] and 0 < part["ms"] <= part["median_ms"]
        assert part["gflop_per_s"] == pytest.approx(1e3 * part["gflop"] / part["ms"])
    shares = [part["share"] for part in found["parts"]]
    assert sum(shares) == pytest.approx(found["sum"]["share"]) and min(shares) > 0
    assert 0.2 < sum(shares) < 5  # an honest sum, but of the same order
    assert found["memory"]["peak_rss"] > 2**20
    assert found["limits"]["products"]["float64"]["complex"] > 0
    assert 0 < found["limits"]["triad_gb_per_s"] < 1e5
    assert {"init", "first_step", "compile"} == found["start"].keys()
    assert not (job_file.parent / "runs").exists()


@pytest.mark.slow
def test_a_run_is_profiled_from_its_newest_checkpoint(job_file: Path) -> None:
    keys = ("--set", "run.n_steps=3", "--set", "optimizer.solver=cg", "--quiet")
    assert invoke("run", job_file, *keys, "--set", "run.out=it").code == 0
    outcome = invoke("profile", "it", "--steps", 2)
    assert outcome.code == 0 and "from step 3" in outcome.out
    reason = "a while loop without a static number of iterations"
    assert f"solve: unknown, {reason}" in outcome.out
    assert f"sampling: unknown, {reason}" not in outcome.out
    message = invoke("profile", "it", "--set", "seed=2")
    assert message.code == 2 and "leave out --set" in message.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jbo.toml"], "did you mean 'job.toml'?"),
        (["job.toml", "--set", "optimizer.nmae=sr"], "did you mean 'name'?"),
        (["."], "error: "),
    ],
)
def test_bad_input(job_file: Path, arguments: list[str], message: str) -> None:
    outcome = invoke("profile", *arguments)
    assert outcome.code == 2 and message in outcome.err and outcome.out == ""
