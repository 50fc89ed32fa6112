"""Tables that a law could have given: its design, its noise, its stopped runs and forecasts, made up and fitted again.

A stopped run is stopped again: where the loss that is drawn for it lies under its bound, the bound is what is known of
it, and otherwise it ends. The others are never stopped, since the rule that spared them is not known. A forecast is off
by as much as it said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from chemscale.laws.doubt.censor import with_noise
from chemscale.laws.doubt.noise import Noise
from chemscale.laws.doubt.residuals import measured
from chemscale.laws.doubt.seeds import SeedNoise, seed_noise
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.numbers import parameters_of
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.rowwise import judged
from chemscale.laws.solver.solve import refit
from chemscale.laws.tables.table import Rows


@dataclass(frozen=True)
class Simulated:
    """Tables made up: the law's problem and runs, the truth (P,), log losses (S, n), fits by its objective (S, P).

    problems: each table's own where some of its losses are bounds, whose marks and noise differ by table; else empty.
    """

    problem: Problem
    runs: Rows
    truth: Array
    losses: Array
    fits: Array
    problems: tuple[Problem, ...] = ()

    @property
    def clusters(self) -> np.ndarray:
        """Number of each run's cluster, (n,)."""
        return self.runs.clusters

    def one(self, s: int) -> Problem:
        """The problem of one table."""
        return self.problems[s] if self.problems else replace(self.problem, log_loss=self.losses[s])

    def seeds(self, s: int) -> SeedNoise | None:
        """What the repeated runs of one table tell of its noise."""
        return seed_noise(self.one(s), self.fits[s], self.clusters)


def simulate(
    problem: Problem, runs: Rows, truth: Array, noise: Noise, count: int, rng: np.random.Generator
) -> Simulated:
    """`count` tables of the runs' design around the law `truth` (P,), fitted as the law was."""
    losses = problem.model.log_fit(truth[None]) + noise.draw(rng, count, runs.clusters)
    if runs.imputed is not None:
        losses = losses + runs.imputed * rng.standard_normal(losses.shape)
    if measured(problem).all():
        fits = refit(problem, losses, np.repeat(problem.weights[None], count, 0), truth)
        return Simulated(problem, runs, truth, losses, fits)
    stopped = ~measured(problem) & (losses <= problem.log_loss)
    losses = np.where(stopped, problem.log_loss, losses)
    problems = tuple(_judged(problem, runs, y, marks) for y, marks in zip(losses, stopped, strict=True))
    fits = np.concatenate([refit(one, one.log_loss, one.weights[None], truth) for one in problems])
    return Simulated(problem, runs, truth, losses, fits, problems)


def _judged(problem: Problem, runs: Rows, losses: Array, stopped: np.ndarray) -> Problem:
    """One table's problem: what is a bound in it, and the noise by which bounds are judged."""
    held = replace(runs, loss=np.exp(losses + problem.log_scale), censored=stopped, imputed=None)
    goal = Objective(problem.objective.name, problem.objective.delta)
    if stopped.any():
        goal, _ = with_noise(problem.form, goal, held)
    return replace(problem, log_loss=losses, objective=judged(goal, stopped))


def described(problem: Problem, runs: Rows, noise: Noise, kind: str, count: int) -> str:
    """What the tables are, in one sentence."""
    low, high = float(noise.scale.min()), float(noise.scale.max())
    size = f"{low:.2%}" if high < 1.01 * low else f"{low:.2%} to {high:.2%}"
    tail = "normal" if np.isinf(noise.tail) else f"Student's t with {noise.tail:g} degrees of freedom"
    told = [
        f"{count} tables of {len(runs)} runs at the points of the law's, {kind} noise of {size} of the loss ({tail})"
    ]
    groups = int(runs.clusters.max()) + 1
    if groups < len(runs):
        told.append(f"{noise.shared:.0%} of its variance shared within {groups} clusters")
    bounds = int((~measured(problem)).sum())
    if bounds:
        told.append(f"{bounds} runs stopped again wherever they would end under their bound, the others never")
    guessed = 0 if runs.imputed is None else int((runs.imputed > 0).sum())
    if guessed:
        told.append(f"{guessed} forecasts off by as much as they said")
    return ", ".join(told)


def theta_of(problem: Problem, theta: Array, truth: Mapping[str, float]) -> Array:
    """Parameters (P,) of published ones, those not given as in theta; ValueError if the form has no such law."""
    numbers = parameters_of(problem)
    unknown = [name for name in truth if name not in numbers]
    if unknown:
        raise ValueError(
            f"truth {unknown[0]!r} is not a parameter of form={problem.form.name!r}: {', '.join(numbers)}."
        )
    wanted = {name: float(number.outward(number.of(theta[None]))[0]) for name, number in numbers.items()} | dict(truth)
    goal = np.array([np.log(wanted[n]) if number.logarithmic else wanted[n] for n, number in numbers.items()])

    def gap(at: Array) -> Array:
        return np.array([number.of(at[None])[0] for number in numbers.values()]) - goal

    start = np.clip(theta, problem.lower + 1e-3, problem.form.upper - 1e-3)
    found = least_squares(gap, start, bounds=(problem.lower, problem.form.upper), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    if np.abs(found.fun).max() > 1e-6 * (1 + np.abs(goal).max()):
        raise ValueError(f"truth={dict(truth)!r} is no law of form={problem.form.name!r}; give parameters it can have.")
    zero = [truth.get(name) == 0 for name in problem.form.inner]
    return np.where(zero, 0.0, found.x)
