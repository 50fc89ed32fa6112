"""Tables of many runs: the same answers as the long way, in time and memory that grow with the runs and no faster."""

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import least_squares

from chemscale.laws.comparison.paired import paired
from chemscale.laws.doubt.draws import Sampler
from chemscale.laws.doubt.noise import Noise
from chemscale.laws.forms import choose
from chemscale.laws.objectives import Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve

RUNS = 20_000
TRUTH = (1.69, 406.4, 410.7, 0.34, 0.28)  # Hoffmann et al. 2022


def many(objective="log_lsq") -> Problem:
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(7, 10, RUNS), 10 ** rng.uniform(9, 12, RUNS)
    loss = (1.69 + 406.4 / n**0.34 + 410.7 / d**0.28) * np.exp(rng.normal(0, 0.01, RUNS))
    goal = Objective(objective, 1e-3)
    return Problem.of(choose("chinchilla", ("params", "data")), goal, np.stack([n, d], 1), loss, np.ones(RUNS))


def reference(problem: Problem):
    """scipy's least squares on the same runs, from the truth, in logs of the amplitudes."""
    log_n, log_d = (problem.x + problem.centre).T
    measured = problem.log_loss + problem.log_scale

    def rest(p):
        return np.log(np.exp(p[0]) + np.exp(p[1] - p[3] * log_n) + np.exp(p[2] - p[4] * log_d)) - measured

    start = np.array([*np.log(TRUTH[:3]), *TRUTH[3:]])
    return least_squares(rest, start, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)


@pytest.mark.slow
def test_a_search_among_some_runs_ends_at_the_minimum_of_all_and_steps_spread_as_theory_says():
    problem = many()
    theta = solve(problem)
    best = reference(problem)
    assert float(problem.value(theta[None])[0]) <= best.cost * (1 + 1e-10)
    published = problem.form.published(theta[None], problem.centre, problem.log_scale)
    assert published["alpha"][0] == pytest.approx(best.x[3], rel=1e-5)  # the minimum is flat over a millionth

    clusters = np.arange(RUNS)
    sampler = Sampler(problem, theta, clusters, Noise.fitted(problem, theta, clusters), np.zeros(RUNS))
    tracemalloc.start()
    draws = {method: sampler.draw(method, 400, 0).theta for method in ("pairs", "wild", "parametric")}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    bread = np.linalg.inv(best.jac.T @ best.jac)
    meat = (best.jac * best.fun[:, None]).T @ (best.jac * best.fun[:, None])
    robust = np.sqrt(np.diag(bread @ meat @ bread))[3:]  # White 1980, of both exponents
    for method, found in draws.items():
        # 400 draws know a standard deviation to 3.5 %; three of those
        assert found[:, 3:].std(0) == pytest.approx(robust, rel=0.11), method
        assert found[:, 3:].mean(0) == pytest.approx(theta[3:], abs=0.2 * robust.max()), method


def test_pairs_are_found_among_thousands_of_one_cell():
    """Every run has one subset, so that each of one group could be paired with each of the other."""
    rng = np.random.default_rng(0)
    sizes = np.sort(10 ** rng.uniform(6, 9, 3000))

    def group(scale):
        return {"params": sizes.tolist(), "data": [1e6] * 3000, "loss": (scale * sizes**-0.1).tolist()}

    look = paired("b", group(1.1), "a", group(1.0), {"params": "params", "data": "data"}, "loss", 0.95)
    assert look.pairs == 3000
    assert look.ratio == pytest.approx(1.1, rel=1e-12)
