"""The optimiser and what it minimises."""

import numpy as np
import pytest
from scipy.optimize import linprog

from chemscale.laws.forms import choose
from chemscale.laws.forms.projection import solve_nonnegative
from chemscale.laws.objectives import OBJECTIVES, Objective
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve
from tests.laws.planted import TRUTH, chinchilla, wide


def problem(form, objective, table, scale=1.0):
    axes = np.stack([table["params"], table["tokens"]], 1) * scale
    return Problem.of(
        choose(form, ("params", "data")), Objective(objective), axes, table["loss"] * scale, np.ones(len(axes))
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_slopes_equal_differences(name):
    goal, step = Objective(name, delta=0.05), 1e-6
    log_loss, log_fit = np.array([[0.3, -0.2, 0.01]]), np.array([[0.1, 0.1, 0.02]])
    at = goal.slopes(log_loss, log_fit)
    up, down = goal.penalty(log_loss, log_fit + step), goal.penalty(log_loss, log_fit - step)
    assert np.allclose(at.first, (up - down) / (2 * step), atol=1e-8)
    assert (at.majorant > 0).all()


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


@pytest.mark.parametrize("seed", range(3))
def test_absolute_deviations_end_where_a_linear_program_ends(seed):
    """A power law without a floor is a straight line in logarithms: its fit is a linear program (primal form)."""
    rng = np.random.default_rng(seed)
    size = np.geomspace(1e4, 1e8, 40)
    log_loss = np.log(30.0) - 0.2 * np.log(size) + 0.05 * rng.standard_t(2, 40)
    task = Problem.of(choose("power", ("params",)), Objective("lad"), size[:, None], np.exp(log_loss), np.ones(40))
    found = task.form.published(solve(task)[None], task.centre, task.log_scale)
    ours = np.abs(log_loss - np.log(found["A"][0]) + found["alpha"][0] * np.log(size)).sum()
    one, line = np.eye(40), np.stack([np.ones(40), -np.log(size)], 1)
    least = linprog(
        np.concatenate([np.zeros(2), np.ones(80)]), A_eq=np.concatenate([line, one, -one], 1), b_eq=log_loss,
        bounds=[(None, None)] * 2 + [(0, None)] * 80, method="highs-ipm",
    )  # fmt: skip
    assert ours == pytest.approx(least.fun, rel=1e-9)


def test_nonnegative_solution_satisfies_its_conditions():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 9, 3))
    gram, right = rows.swapaxes(1, 2) @ rows, rng.normal(size=(200, 3))
    found = solve_nonnegative(gram, right)
    slope = np.einsum("bkl,bl->bk", gram, found) - right
    assert (found >= 0).all() and (slope > -1e-8).all() and np.allclose(slope * found, 0, atol=1e-8)


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
