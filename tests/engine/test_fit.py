"""Maximum likelihood against the entropy of a known distribution."""

import jax
import numpy as np
import pytest

from ansatze.mps import mps
from tests.engine.helpers import made
from vmc.base import Problem
from vmc.errors import JobError
from vmc.fit import fit, log_likelihood
from vmc.space import spins

N = 5


def distribution() -> np.ndarray:
    """A correlated one: an Ising chain in a field."""
    s = spins(N).all_states().astype(float)
    weight = np.exp(0.7 * np.sum(s[:, 1:] * s[:, :-1], axis=1) + 0.2 * s.sum(axis=1))
    return weight / weight.sum()


@pytest.mark.parametrize(
    "dtype", ["real", pytest.param("complex", marks=pytest.mark.slow)]
)
def test_a_born_machine_learns_a_distribution(dtype: str) -> None:
    p, states = distribution(), spins(N).all_states()
    rng = np.random.default_rng(3)
    samples = states[rng.choice(len(p), size=20_000, p=p)]
    wf = mps(Problem(spins(N), dtype), bond_dimension=2)
    found = fit(wf, samples, jax.random.key(1), n_steps=600)
    entropy = -np.sum(p * np.log(p))
    learnt = np.asarray(
        jax.jit(log_likelihood, static_argnums=0)(wf, found.params, states)
    )
    np.testing.assert_allclose(np.sum(np.exp(learnt)), 1, rtol=1e-10)
    divergence = np.sum(p * (np.log(p) - learnt))
    assert found.nll.shape == (600,)
    assert found.nll[:20].mean() > entropy + 0.2, "there was nothing to learn"
    assert 0 <= divergence < 0.01


def test_what_cannot_be_fitted() -> None:
    wf, params = made("rbm-real", spins(N))
    samples = spins(N).all_states()
    with pytest.raises(JobError, match="needs the norm"):
        fit(wf, samples, jax.random.key(0), params=params, n_steps=1)
    wf = mps(Problem(spins(N), "real"), bond_dimension=2)
    with pytest.raises(JobError, match="expected \\(n, N\\)"):
        fit(wf, samples[:0], jax.random.key(0))
    with pytest.raises(JobError, match="batch is 0"):
        fit(wf, samples, jax.random.key(0), batch=0)
