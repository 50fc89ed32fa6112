"""Laws as likelihoods: tables of one design with their best fits, and how far a number of each can lie.

Two variances stand for the noise. That of the residuals run by run (`tangent`, CR2) holds whatever the noise is, and
pays with degrees of freedom: a loss far out leans on the few runs at the edge, whose own residuals tell little. That of
the residuals' trend with size (`onerun`) holds where noise changes smoothly with scale. A parameter takes the first.
The loss at a point takes the mean of both, and of their degrees of freedom, unless runs share clusters: by simulation
(`tests/benchmarks/coverage.py`) the first alone covers up to 99 % far out on 4 x 4 runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.stats import t as student

from chemscale.laws.doubt.onerun import RunNoise
from chemscale.laws.doubt.profile import Tables, ends
from chemscale.laws.doubt.residuals import freedom, measured, noise_scale
from chemscale.laws.doubt.seeds import SeedNoise, log_size
from chemscale.laws.objectives import Array
from chemscale.laws.solver.newton import newton
from chemscale.laws.solver.numbers import LogLoss, LogLosses, Number
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.rowwise import Cornered
from chemscale.laws.solver.tangent import CORNER, MOST_RUNS, Spread, Tangent

LEAST_NOISE = 1e-8  # of a loss: below it a rise of the objective is lost in rounding and in where the solver settles
STEPS = 60  # of Newton, from the fit of a robust objective to that of its likelihood
AT_ONCE = 200_000  # runs times points whose profiles are sought together


@dataclass(frozen=True)
class Likelihood:
    """S tables of a problem's design (S = 1 for a law): their fits under the working objective, the tangents there."""

    problem: Problem
    tables: Tables
    tangent: Tangent

    @classmethod
    def of(cls, problem: Problem, theta: Array, clusters: np.ndarray) -> Likelihood:
        """One table from the fit theta (P,) of the problem's own objective."""
        return cls.over(problem, problem.log_loss[None], theta[None], clusters)

    @classmethod
    def over(cls, problem: Problem, losses: Array, theta: Array, clusters: np.ndarray) -> Likelihood:
        """Tables of log losses (S, n) from their fits theta (S, P); each has a corner of its own for a robust one."""
        goal, weights = problem.objective, np.repeat(problem.weights[None], len(losses), 0)
        best = theta
        if goal.robust:
            scales = [noise_scale(replace(problem, log_loss=y), t) for y, t in zip(losses, theta, strict=True)]
            corners = CORNER * np.maximum(scales, LEAST_NOISE)
            goal = goal.likelihood(float(corners[0])) if len(losses) == 1 else Cornered.at(corners)
        if goal.robust or len(losses) > 1:
            best = newton(problem.model, goal, losses, weights, best, problem.form.upper, STEPS, lower=problem.lower)
        tables = Tables(problem.model, goal, problem.lower, problem.form.upper, losses, weights, best)
        return cls(problem, tables, Tangent.at(problem.model, goal, losses, weights, best, clusters))

    def spread(self, number: Number) -> Spread:
        """Variances of a number of each table and their degrees of freedom."""
        gradient = number.gradient(self.tables.theta)
        found = self.tangent.spread(gradient)
        if not isinstance(number, (LogLoss, LogLosses)) or self._clustered:
            return found
        smooth, known = self._smooth(gradient)
        return Spread(found.model, 0.5 * (found.sound + smooth), 0.5 * (found.freedom + known))

    def ends(self, number: Number, level: float) -> tuple[Array, Array, Array]:
        """Ends (S, 2) on the number's own scale, its variances' ratio to the deviance and degrees of freedom, (S,)."""
        found = self.spread(number)
        ratio = np.maximum(found.sound / found.model, LEAST_NOISE**2)
        most = student.ppf(0.5 + level / 2, found.freedom) * np.sqrt(ratio)
        return ends(self.tables, number, found.model, most), ratio, found.freedom

    def losses(self, x: Array, level: float) -> Array:
        """Ends of one table's log loss at points x (points, axes) of centred logs, (points, 2)."""
        out, step = [], max(AT_ONCE // len(self.problem.x), 1)
        for first in range(0, len(x), step):
            part = x[first : first + step]
            each = [self.spread(LogLosses(at[None], self.problem.form)) for at in part]
            found = Spread(*(np.concatenate(column) for column in zip(*each, strict=True)))
            ratio = np.maximum(found.sound / found.model, LEAST_NOISE**2)
            most = student.ppf(0.5 + level / 2, found.freedom) * np.sqrt(ratio)
            out.append(ends(self.tables.repeated(len(part)), LogLosses(part, self.problem.form), found.model, most))
        return np.concatenate(out)

    def noise(self, table: int = 0, seeds: SeedNoise | None = None) -> RunNoise:
        """The noise of one more run of a table: of its residuals, or of `seeds` where repeats tell it.

        Where some losses are bounds, the residuals that are seen are of lucky or unlucky runs, and the noise is the
        one that was fitted with the law.
        """
        problem, known = self.problem, measured(self.problem)
        if not known.all():
            wide = np.sqrt(2) if problem.objective.robust else 1.0
            return RunNoise(float(problem.objective.spread * wide), float(freedom(problem)))
        if seeds is not None and seeds.tells:
            return RunNoise(seeds.sd, seeds.freedom, 0.5 * seeds.trend, 0.0, seeds.centre, seeds.low, seeds.high)
        errors = self.tables.log_loss[table] - self._fitted[table]
        return self._trend(table, errors, problem.objective.robust)

    def _smooth(self, gradient: Array) -> tuple[Array, Array]:
        """Variance (S,) by the trend of the errors with size, and its degrees of freedom."""
        reach = np.einsum("snp,sp->sn", self.tangent.design, self.tangent.step(gradient))
        size, found = log_size(self.problem), np.empty((2, len(reach)))
        for s, noise in enumerate(self._trends):
            off = size - noise.centre
            parts = reach[s] ** 2 * noise.sd**2 * np.exp(2 * noise.slope * off)
            total = max(float(parts.sum()), 1e-300)
            found[:, s] = total, 0.5 / (0.5 / noise.freedom + (noise.unsure * float(parts @ off) / total) ** 2)
        return found[0], found[1]

    def _trend(self, table: int, errors: Array, robust: bool) -> RunNoise:
        design, inverse = self.tangent.design[table], self.tangent.inverse[table]
        if self._clustered and len(errors) <= MOST_RUNS:
            left = np.eye(len(errors)) - design @ inverse @ design.T
        else:
            left = 1 - np.einsum("np,pq,nq->n", design, inverse, design)
        return RunNoise.of(errors, left, log_size(self.problem), self.tangent.clusters, robust)

    @cached_property
    def _trends(self) -> list[RunNoise]:
        """Of the errors in the unit of the working objective, which cuts far ones itself."""
        return [self._trend(s, errors, False) for s, errors in enumerate(self.tangent.errors)]

    @cached_property
    def _fitted(self) -> Array:
        return self.problem.model.log_fit(self.tables.theta)

    @property
    def _clustered(self) -> bool:
        return int(self.tangent.clusters.max()) + 1 < len(self.problem.x)


def around_run(value: Array, law: Array, half: Array) -> Array:
    """The interval of one run about `value` (S,), from that of the law (S, 2) and half that of the noise (S,)."""
    return np.stack([value - np.hypot(value - law[:, 0], half), value + np.hypot(law[:, 1] - value, half)], 1)
