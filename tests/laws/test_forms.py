"""Every form: its derivatives, its planted parameters, its units, and its minimum against other optimisers."""

import numpy as np
import pytest
from scipy.optimize import minimize

from chemscale.laws.forms import FORMS, choose
from chemscale.laws.objectives import Objective
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from tests.laws.planted import PLANTED, runs_of

EVERY = pytest.mark.parametrize(("form", "roles"), PLANTED)


def problem(form, roles, objective="log_lsq", **planted):
    axes, loss = runs_of(form, roles, **planted)
    return Problem.of(choose(form, roles), Objective(objective), axes, loss, np.ones(len(loss)))


def published(task, theta):
    return {k: v[0] for k, v in task.form.published(theta[None], task.centre, task.log_scale).items()}


def test_every_form_is_planted():
    assert {form for form, _ in PLANTED} == set(FORMS)


@EVERY
def test_derivatives_equal_differences(form, roles):
    rng = np.random.default_rng(0)
    shape, x = choose(form, roles), rng.normal(size=(7, len(roles)))
    x[:, -1] += 2.0 * (form == "repeated")
    model, step = shape.bind(x), 1e-6
    theta, v = rng.uniform(0.3, 1, (3, len(shape.inner))), rng.normal(size=(3, 7))
    at, unit = model.derivatives(theta), np.eye(theta.shape[1])
    slopes = [(model.log_fit(theta + step * u) - model.log_fit(theta - step * u)) / (2 * step) for u in unit]
    ends = [(model.derivatives(theta + step * u).jacobian, model.derivatives(theta - step * u).jacobian) for u in unit]
    bends = [np.einsum("bn,bnp->bp", v, up - down) / (2 * step) for up, down in ends]
    # central differences of step 1e-6 are good to about 1e-9
    assert np.allclose(at.log_fit, model.log_fit(theta), rtol=1e-14)
    assert np.allclose(at.jacobian, np.stack(slopes, -1), atol=1e-8)
    assert np.allclose(at.curvature(v), np.stack(bends, -1), atol=1e-8)


@EVERY
def test_exact_data_give_the_truth_back(form, roles):
    task = problem(form, roles)
    assert published(task, solve(task)) == pytest.approx(PLANTED[form, roles][2], rel=1e-3)


@EVERY
@pytest.mark.parametrize("units", [(1e-6, 1e9), (1e9, 1e-6)])
def test_units_of_the_inputs_do_not_matter(form, roles, units):
    plain = problem(form, roles, "huber", noise=0.005, seed=2)
    other = problem(form, roles, "huber", noise=0.005, seed=2, units=units)
    a, b = solve(plain), solve(other)
    assert other.value(b[None])[0] == pytest.approx(plain.value(a[None])[0], rel=1e-9)
    assert np.allclose(plain.model.log_fit(a[None]), other.model.log_fit(b[None]), atol=1e-6)
    first, second = published(plain, a), published(other, b)
    for name in set(first) & {"alpha", "beta", "gamma", "kappa", "R_D_star", "c0", "c1", "f1"}:
        assert second[name] == pytest.approx(first[name], rel=1e-3)


@EVERY
@pytest.mark.parametrize("objective", ["huber", "lad", "log_lsq", "lsq"])
def test_no_other_start_ends_lower(form, roles, objective):
    task = problem(form, roles, objective, noise=0.02, seed=3)
    best = task.value(solve(task)[None])[0]
    starts = 8 if form == "repeated" else 30
    assert best <= rival(task, starts, 0) * (1 + 1e-8)


def rival(task, starts, seed):
    """Lowest of many random starts, polished by Newton and, some of them, by scipy's L-BFGS-B."""
    begin = random_starts(task, starts, seed)
    with np.errstate(all="ignore"):  # random starts reach where losses overflow
        return _lowest(task, begin, starts)


def _lowest(task, begin, starts):
    goal, bounds = (task.objective, task.log_loss, task.weights), (task.lower, task.form.upper)
    found = newton(task.model, *goal, begin, bounds[1], 200, lower=bounds[0])
    lowest = task.value(found).min()
    for theta in begin[: starts // 3]:
        end = minimize(
            value_and_gradient, theta, args=(task,), jac=True, method="L-BFGS-B", bounds=np.stack(bounds, 1),
        )  # fmt: skip
        lowest = min(lowest, task.value(np.clip(end.x, *bounds)[None])[0])
    return lowest


def random_starts(task, starts, seed):
    """Amplitudes and floors of order one, all else over the typical part of its range."""
    rng = np.random.default_rng(seed)
    low, high = np.maximum(task.lower, -3.0), np.minimum(task.form.upper, 1.5)
    return low + (high - low) * rng.uniform(0.01, 1, (starts, len(low)))


def value_and_gradient(theta, task):
    """Scaled by a thousand, without which L-BFGS-B stops at once on a Huber objective of delta 1e-3."""
    at = task.model.derivatives(theta[None])
    first = task.weights * task.objective.slopes(task.log_loss, at.log_fit).first
    value = (task.weights * task.objective.penalty(task.log_loss, at.log_fit)).sum()
    return 1e3 * value, 1e3 * np.einsum("bn,bnp->p", first, at.jacobian)
