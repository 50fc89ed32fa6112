"""The optimiser finds the minimum of each objective, for every form, whatever the units."""

import numpy as np
import pytest
from scipy.optimize import minimize

from chemscale.laws.forms import FORMS, choose
from chemscale.laws.objectives import OBJECTIVES, Objective
from chemscale.laws.projection import solve_nonnegative
from chemscale.laws.solve import Problem, newton, solve
from tests.laws.planted import TRUTH, chinchilla, wide

ROLES = {name: ("data",) if name == "power_floor" else ("params", "data") for name in FORMS}


def problem(form, objective, table, scale=1.0):
    axes = np.stack([table["params" if role == "params" else "tokens"] for role in ROLES[form]], 1) * scale
    return Problem.of(choose(form, ROLES[form]), Objective(objective), axes, table["loss"] * scale, np.ones(len(axes)))


@pytest.mark.parametrize("form", FORMS)
def test_derivatives_equal_differences(form):
    rng = np.random.default_rng(0)
    shape = choose(form, ROLES[form])
    model = shape.bind(rng.normal(size=(7, len(ROLES[form]))))
    theta, v, step = rng.uniform(0.3, 1, (1, len(shape.inner))), rng.normal(size=(1, 7)), 1e-6
    at, unit = model.derivatives(theta), np.eye(theta.shape[1])
    slopes = [(model.log_fit(theta + step * u) - model.log_fit(theta - step * u)) / (2 * step) for u in unit]
    bends = [
        np.einsum(
            "bn,bnp->bp", v, model.derivatives(theta + step * u).jacobian - model.derivatives(theta - step * u).jacobian
        )
        / (2 * step)
        for u in unit
    ]
    # central differences of step 1e-6 are good to about 1e-9
    assert np.allclose(at.jacobian, np.stack(slopes, -1), atol=1e-8)
    assert np.allclose(at.curvature(v), np.stack(bends, -1), atol=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_slopes_equal_differences(name):
    goal, step = Objective(name, delta=0.05), 1e-6
    log_loss, log_fit = np.array([[0.3, -0.2, 0.01]]), np.array([[0.1, 0.1, 0.02]])
    at = goal.slopes(log_loss, log_fit)
    up, down = goal.penalty(log_loss, log_fit + step), goal.penalty(log_loss, log_fit - step)
    assert np.allclose(at.first, (up - down) / (2 * step), atol=1e-8)
    assert (at.majorant > 0).all()


@pytest.mark.parametrize("form", [name for name in FORMS if name != "kaplan"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_other_start_ends_lower(form, objective):
    """Against many random starts polished by the same Newton and by scipy's L-BFGS-B on the exact objective."""
    task = problem(form, objective, wide(noise=0.02, seed=3))
    best = task.value(solve(task)[None])[0]
    assert best <= rival(task) * (1 + 1e-8)


def rival(task, starts=40, seed=0):
    rng = np.random.default_rng(seed)
    terms = len(task.form.inner) - len(task.form.exponents)
    begin = np.concatenate(
        [rng.uniform(0, 1, (starts, terms)), rng.uniform(0.02, 1.5, (starts, len(task.form.exponents)))], 1
    )
    lowest = task.value(
        newton(task.model, task.objective, task.log_loss, task.weights, begin, task.form.upper, 200)
    ).min()
    bounds = [(1e-6, 10 if not np.isfinite(u) else u) for u in task.form.upper]
    for theta in begin[:10]:
        found = minimize(value_and_gradient, theta, args=(task,), jac=True, method="L-BFGS-B", bounds=bounds)
        lowest = min(lowest, task.value(found.x[None])[0])
    return lowest


def value_and_gradient(theta, task):
    """Scaled by a thousand, without which L-BFGS-B stops at once on a Huber objective of delta 1e-3."""
    at = task.model.derivatives(theta[None])
    first = task.weights * task.objective.slopes(task.log_loss, at.log_fit).first
    value = (task.weights * task.objective.penalty(task.log_loss, at.log_fit)).sum()
    return 1e3 * value, 1e3 * np.einsum("bn,bnp->p", first, at.jacobian)


@pytest.mark.parametrize("objective", ["huber", "lad", "log_lsq"])
def test_units_of_the_inputs_do_not_matter(objective):
    table = wide(noise=0.01)
    plain, scaled = problem("chinchilla", objective, table), problem("chinchilla", objective, table, scale=1e6)
    a, b = solve(plain), solve(scaled)
    assert plain.value(a[None])[0] == pytest.approx(scaled.value(b[None])[0], rel=1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_exact_data_give_the_truth_back(objective):
    task = problem("chinchilla", objective, wide())
    found = task.form.published(solve(task)[None], task.centre, task.log_scale)
    assert {k: v[0] for k, v in found.items()} == pytest.approx(TRUTH, rel=1e-3)


def test_outliers_do_not_steer_a_robust_fit():
    table = wide(noise=0.002, seed=1)
    table["loss"][-2:] *= 1.3  # the largest runs failed to train well
    errors = {}
    for objective in ("huber", "lad", "log_lsq"):
        task = problem("chinchilla", objective, table)
        errors[objective] = abs(task.form.published(solve(task)[None], task.centre, task.log_scale)["beta"][0] - 0.28)
    assert max(errors["huber"], errors["lad"]) < 0.01 < errors["log_lsq"]


def test_nonnegative_solution_satisfies_its_conditions():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 9, 3))
    gram, right = rows.swapaxes(1, 2) @ rows, rng.normal(size=(200, 3))
    found = solve_nonnegative(gram, right)
    slope = np.einsum("bkl,bl->bk", gram, found) - right
    assert (found >= 0).all() and (slope > -1e-8).all() and np.allclose(slope * found, 0, atol=1e-8)


def test_kaplan_is_recovered():
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e7, 1e10, 6)))
    loss = ((8.8e13 / n) ** (0.076 / 0.095) + 5.4e13 / d) ** 0.095  # Kaplan et al. 2020, 1.1 and 1.2
    task = Problem.of(
        choose("kaplan", ("params", "data")), Objective("log_lsq"), np.stack([n, d], 1), loss, np.ones(36)
    )
    found = task.form.published(solve(task)[None], task.centre, task.log_scale)
    assert found["alpha"][0] == pytest.approx(0.076, rel=1e-4) and found["beta"][0] == pytest.approx(0.095, rel=1e-4)
    assert found["N_c"][0] == pytest.approx(8.8e13, rel=1e-2) and found["D_c"][0] == pytest.approx(5.4e13, rel=1e-2)


def test_three_axes_as_uni_mol2():
    """L = 2.660 M^-1.137 + 1.848 S^-0.225 + 0.588 C^-1.479 (Ji et al. 2024)."""
    axes = np.stack([a.ravel() for a in np.meshgrid(*[np.geomspace(1, 100, 5)] * 3)], 1)
    loss = 2.660 * axes[:, 0] ** -1.137 + 1.848 * axes[:, 1] ** -0.225 + 0.588 * axes[:, 2] ** -1.479
    task = Problem.of(choose("power", ("params", "data", "flops")), Objective("log_lsq"), axes, loss, np.ones(125))
    found = task.form.published(solve(task)[None], task.centre, task.log_scale)
    truth = {"A": 2.660, "B": 1.848, "C": 0.588, "alpha": 1.137, "beta": 0.225, "gamma": 1.479}
    assert {k: v[0] for k, v in found.items()} == pytest.approx(truth, rel=1e-4)


def test_chinchilla_matches_its_equation():
    task = problem("chinchilla", "log_lsq", wide())
    theta = solve(task)
    assert np.exp(task.model.log_fit(theta[None])[0] + task.log_scale) == pytest.approx(
        chinchilla(wide()["params"], wide()["tokens"]), rel=1e-6
    )
