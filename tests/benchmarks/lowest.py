"""Whether a fit finds the lowest objective: every form over random tables, against searches from many random starts.

    python -m tests.benchmarks.lowest [FORM ...] [--tables 10] [--starts 500] [--descents 30]

Tables are of random laws of any form over the same axes (so that most are not of the form fitted), 12 to 150 runs,
noise of 0.1 to 3 %, weights, units from 1e-6 to 1e12; all four objectives take turns. The rivals know nothing of our
starts: `starts` random ones, each by Newton's method to the end of the exact objective, and `descents` of scipy's
L-BFGS-B (Byrd et al. 1995) with bounds, the best of them polished likewise. Prints per form in how many tables the fit
is above the rivals' best by more than 1e-8 of its value, the largest such share, and how often it is below them all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.optimize import minimize

from chemscale.laws.forms import FORMS, choose
from chemscale.laws.forms.form import MAX_EXPONENT, Form
from chemscale.laws.objectives import OBJECTIVES, Array, Objective
from chemscale.laws.solver.newton import newton, polish
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import solve

WORSE = 1e-8  # of the value: what the fit may lie above another search
NOISELESS = 1e-10  # a mean penalty below is rounding
ALL_ROLES = {1: ("data",), 2: ("params", "data"), 3: ("params", "data", "seen")}
ASKED = ("power_floor", "power", "kaplan", "chinchilla", "tied", "gamma", "varying", "hill", "quadrature", "repeated",
         "bnsl")  # fmt: skip


def random_theta(form: Form, x: Array, least: float, rng: np.random.Generator, count: int) -> Array:
    """Parameters anywhere within reason, (count, P); `least` is the lowest loss."""
    lower, upper, columns = form.lower(), form.upper, []
    for k in range(len(form.inner)):
        if k == 0 and form.floor:
            column = np.maximum(least * rng.uniform(0, 1, count), 0.0) ** (2 if form.name == "quadrature" else 1)
        elif not np.isfinite(upper[k]):
            column = np.exp(rng.normal(-0.7, 1.5, count))
        elif lower[k] < 0:
            column = rng.uniform(x[:, 0].min(), x[:, 0].max(), count)
        elif upper[k] == MAX_EXPONENT:
            column = np.exp(rng.uniform(np.log(0.02), np.log(2.0), count))
        else:
            column = np.exp(rng.uniform(np.log(max(lower[k], 1e-2)), np.log(upper[k]), count))
        columns.append(column)
    return np.clip(np.stack(columns, 1), lower, upper)


def tables(form: Form, count: int, seed: int) -> Iterator[Problem]:
    """Problems of `form` whose truth is any form over the same axes."""
    rng = np.random.default_rng(seed)
    others = [choose(name, form.roles) for name, kind in FORMS.items() if len(form.roles) in kind.axes]
    others = [other for other in others if other.name != "bnsl" or form.name == "bnsl"]
    for k in range(count):
        runs = int(np.exp(rng.uniform(np.log(12), np.log(150))))
        logs = rng.uniform(0, np.log(10.0 ** rng.uniform(1, 3.5)), (runs, len(form.roles)))
        if k % 3 == 0:  # a grid, as most are
            logs = np.round(logs / logs.max() * 5) / 5 * logs.max()
        if "seen" in form.roles:
            logs[:, 2] = logs[:, 1] + rng.exponential(1.2, runs) * (rng.uniform(0, 1, runs) < 0.7)
        logs = logs + rng.uniform(np.log(1e-6), np.log(1e12))
        truth = others[rng.integers(len(others))]
        x = logs - truth.centre(logs)
        while True:
            theta = random_theta(truth, x, 0.8, rng, 1)
            log_loss = truth.bind(x).log_fit(theta)[0]
            if np.isfinite(log_loss).all() and 0.1 < np.ptp(log_loss) < 5:
                break
        noise = np.exp(rng.uniform(np.log(1e-3), np.log(3e-2)))
        kick = rng.standard_t(3, runs) if k % 2 else rng.normal(size=runs)
        loss = np.exp(log_loss + noise * kick) * 10 ** rng.uniform(-4, 4)
        weights = np.ones(runs) if rng.uniform() < 0.5 else rng.uniform(0.2, 2, runs)
        yield Problem.of(form, Objective(OBJECTIVES[k % len(OBJECTIVES)]), np.exp(logs), loss, weights)


def many_starts(problem: Problem, starts: int, rng: np.random.Generator) -> Array:
    """Minima from random starts, (starts, P)."""
    form, model, goal = problem.form, problem.model, problem.objective
    lower, data = form.lower(), (problem.log_loss, problem.weights)
    ends = []
    for _ in range(max(starts // 250, 1)):
        theta = random_theta(form, problem.x, float(np.exp(problem.log_loss.min())), rng, 250)
        theta = newton(
            model, goal.smooth, problem.log_loss, problem.weights, theta, form.upper, 40, 1e-10, form.lower()
        )
        ends.append(polish(model, goal, *data, theta, form.upper, lower=lower))
    return np.concatenate(ends)


def descents(problem: Problem, count: int, rng: np.random.Generator) -> Array:
    """Ends of L-BFGS-B from random starts, polished, (count, P)."""
    form, model, goal = problem.form, problem.model, problem.objective

    def penalty(theta: np.ndarray, goal: Objective) -> tuple[float, np.ndarray]:
        with np.errstate(all="ignore"):
            at = model.derivatives(theta[None])
            value = 1e4 * (problem.weights * goal.penalty(problem.log_loss, at.log_fit)).sum()
            slope = 1e4 * (problem.weights * goal.slopes(problem.log_loss, at.log_fit).first) @ at.jacobian[0]
        return (value, slope[0]) if np.isfinite(value) else (1e30, np.zeros_like(theta))

    ends, bounds = [], list(zip(form.lower(), form.upper, strict=True))
    for theta in random_theta(form, problem.x, float(np.exp(problem.log_loss.min())), rng, count):
        for stage in dict.fromkeys((goal.smooth, goal)):
            theta = minimize(penalty, theta, (stage,), method="L-BFGS-B", jac=True, bounds=bounds).x
        ends.append(theta)
    return polish(model, goal, problem.log_loss, problem.weights, np.array(ends), form.upper, lower=form.lower())


def main() -> None:
    parser = argparse.ArgumentParser(description="whether fits find the lowest objective")
    parser.add_argument("forms", nargs="*", default=ASKED)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--starts", type=int, default=500)
    parser.add_argument("--descents", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true", help="print every table that is worse")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed + 1)
    for name in options.forms:
        counts = [n for n in FORMS[name].axes if n in ALL_ROLES and (n < 3 or name == "repeated")]
        for roles in (ALL_ROLES[n] for n in counts):
            excesses, below = [], 0
            for k, problem in enumerate(tables(choose(name, roles), options.tables, options.seed)):
                mine = problem.value(solve(problem)[None])[0]
                rivals = [many_starts(problem, options.starts, rng), descents(problem, options.descents, rng)]
                with np.errstate(all="ignore"):
                    values = problem.value(np.concatenate(rivals))
                best = float(np.nanmin(values))
                floor = NOISELESS * problem.weights.sum()
                excesses.append((mine - best) / max(best, floor))
                below += (best - mine) / max(mine, floor) > WORSE
                if options.each and excesses[-1] > WORSE:
                    hits = int((values <= best * (1 + 1e-6)).sum())
                    print(f"  {name} {k} {problem.objective.name} n={len(problem.x)} excess {excesses[-1]:.1e} "
                          f"found by {hits} of {len(values)} starts")  # fmt: skip
            worse = np.array(excesses) > WORSE
            print(f"{name} over {len(roles)}: above in {worse.sum()} of {len(worse)}, largest {max(excesses):.1e}; "
                  f"below all in {below}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
