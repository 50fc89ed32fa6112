"""Nested joint models of several groups, and likelihood-ratio tests between them.

The likelihood is that of log-normal noise of one size (times each run's weight), so with n runs and the weighted sum of
squared log residuals S the statistic is LR = n log(S_smaller / S_larger). Beside it stand the asymptotic chi-square
p-value (Wilks 1938), the F-test's, exact where the law is linear in its parameters, and that of a parametric bootstrap:
losses drawn from the smaller model, both models refitted, the share of LR at least as large (Davison and Hinkley 1997,
section 4.2; (1 + hits) / (1 + draws)). Draws end early once so many are as large that p is above `OPEN` (Besag and
Clifford 1991): p is then the hits over the draws so far, valid at every level, and what is plainly no difference is not
refitted to its last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import chi2
from scipy.stats import f as fisher

from chemscale.laws.comparison.joint import Joint, Pool
from chemscale.laws.doubt.noise import Noise, shared_within
from chemscale.laws.doubt.onestep import Stepper
from chemscale.laws.doubt.residuals import basis
from chemscale.laws.objectives import Array
from chemscale.laws.solver.problem import Problem
from chemscale.laws.solver.solve import refit, solve

OPEN = 0.05  # p-values of so much and less are those of all draws
HITS = 20  # draws as large, at least, that end a test: larger p-values have a relative error of 22 %
ROUND = 100  # draws that are judged together, at most
CELLS = 2_500_000  # draws times runs that are worked on at once
MOST_REFITTED = 10_000  # runs above which draws are judged in the tangent of the law and not refitted
EXACT_FIT = 1e-20  # squared log residuals under which losses are reproduced to rounding
Judge = Callable[[Array], Array]  # of draws of the log losses (draws, n), (draws,)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A joint model at its best parameters: theta (Q,) and the weighted sum of squared log residuals."""

    form: Joint
    problem: Problem
    theta: Array
    squares: float

    @property
    def runs_left(self) -> int:
        """Runs minus fitted parameters."""
        return len(self.problem.x) - self.form.fitted

    @property
    def sigma(self) -> float:
        """Standard deviation of a run of weight one about the law, in log loss."""
        return float(np.sqrt(self.squares / self.runs_left))

    @property
    def log_likelihood(self) -> float:
        """Highest log density of the measured log losses."""
        n = len(self.problem.x)
        weights = np.log(self.problem.weights).sum()
        return float(-0.5 * n * (np.log(2 * np.pi * self.squares / n) + 1) + 0.5 * weights)

    @cached_property
    def fit(self) -> Array:
        """Fitted log loss in the pool's scale, (n,)."""
        return self.problem.model.log_fit(self.theta[None])[0]

    @property
    def each(self) -> Array:
        """Every group's parameters, (groups, P)."""
        return np.array([self.form.spread(self.theta[None], g)[0] for g in range(self.form.groups)])


def fit_joint(pool: Pool, free: Sequence[str], anchors: Array, tied: Sequence[tuple[int, str]] = ()) -> Fitted:
    """The joint model with the parameters `free` one per group but for `tied`, from `anchors` (k, groups, P)."""
    form = pool.joint(free, anchors, tied)
    problem = pool.problem(form)
    theta = solve(problem)
    return Fitted(form, problem, theta, squares(problem, problem.log_loss, theta[None])[0])


def squares(problem: Problem, log_loss: Array, theta: Array) -> Array:
    """Weighted sums of squared log residuals, (B,), never quite zero."""
    rest = log_loss - problem.model.log_fit(theta)
    return np.maximum((rest**2 * problem.weights).sum(1), EXACT_FIT)


@dataclass(frozen=True)
class Model:
    """One joint model: which parameters each group has of its own, and how well it does.

    parameters: how many are fitted; log_likelihood of the log losses; aic = 2 parameters - 2 log_likelihood; sigma the
    standard deviation of a run in log loss (0.01 is 1 %); values: group -> parameter -> value, under the names of the
    form's paper.
    """

    name: str
    free: tuple[str, ...]
    parameters: int
    log_likelihood: float
    aic: float
    sigma: float
    values: dict[str, dict[str, float]]

    @classmethod
    def of(cls, name: str, fitted: Fitted, pool: Pool) -> Model:
        """The record of a fitted model."""
        values = {}
        for group, own in zip(pool.names, fitted.each, strict=True):
            published = pool.each.published(own[None], pool.centre, pool.log_scale)
            values[group] = {key: float(value[0]) for key, value in published.items()}
        likelihood, count = fitted.log_likelihood, fitted.form.fitted + 1  # and sigma
        return cls(
            name, fitted.form.free, fitted.form.fitted, likelihood, 2 * count - 2 * likelihood, fitted.sigma, values
        )


@dataclass(frozen=True)
class Test:
    """Whether groups differ in `frees`: the likelihood ratio of two nested models.

    larger has the parameters `frees` one per group, smaller shares them, and both leave `beside` free. statistic = LR;
    p_bootstrap is None without a bootstrap, and draws how many it took. `p` is the one to quote.
    """

    question: str
    frees: tuple[str, ...]
    beside: tuple[str, ...]
    statistic: float
    degrees: int
    p_chi2: float
    p_f: float
    p_bootstrap: float | None
    draws: int

    @property
    def p(self) -> float:
        """The bootstrap's p-value, or the F-test's without one."""
        return self.p_f if self.p_bootstrap is None else self.p_bootstrap

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field and `p`."""
        return {**self.__dict__, "frees": list(self.frees), "beside": list(self.beside), "p": self.p}


def likelihood_ratio(
    question: str, smaller: Fitted, larger: Fitted, clusters: np.ndarray, draws: int, rng: np.random.Generator
) -> Test:
    """Test the smaller model against the larger one, which contains it."""
    n, degrees = len(larger.problem.x), larger.form.fitted - smaller.form.fitted
    ratio = max(smaller.squares / larger.squares, 1.0)
    statistic = float(n * np.log(ratio))
    by_f = float(fisher.sf((ratio - 1) * larger.runs_left / degrees, degrees, larger.runs_left))
    drawn, draws = by_draws(smaller, larger, statistic, clusters, draws, rng) if draws else (None, 0)
    tied = {name for _, name in smaller.form.tied}
    beside = tuple(name for name in smaller.form.free if name not in tied)
    frees = tuple(name for name in larger.form.free if name not in beside)
    return Test(question, frees, beside, statistic, degrees, float(chi2.sf(statistic, degrees)), by_f, drawn, draws)


def by_draws(
    smaller: Fitted, larger: Fitted, statistic: float, clusters: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[float, int]:
    """The parametric bootstrap's p-value of the statistic, and the draws it took, at most so many."""
    judge, hits, enough = ratios(smaller, larger), np.zeros(0, bool), max(HITS, math.ceil(OPEN * most))
    while len(hits) < most:
        for part in simulated(smaller, clusters, min(ROUND, most - len(hits)), rng):
            hits = np.concatenate([hits, judge(part) >= statistic * (1 - 1e-9)])
        if hits.sum() >= enough:
            last = int(np.flatnonzero(hits)[enough - 1]) + 1
            return enough / last, last
    return float((1 + hits.sum()) / (1 + most)), most


def ratios(smaller: Fitted, larger: Fitted) -> Judge:
    """LR of every draw of the log losses (draws, n), both models refitted, (draws,)."""
    below = refitted(smaller.problem, smaller.theta)
    above = refitted(larger.problem, larger.form.gather(smaller.each))
    runs = len(smaller.problem.x)
    return lambda losses: runs * np.log(np.maximum(below(losses) / above(losses), 1.0))


def refitted(problem: Problem, start: Array) -> Judge:
    """Weighted sums of squared log residuals of refits from `start` (Q,) to draws of the log losses (draws, n).

    Above `MOST_REFITTED` runs they are those left in the tangent of the model at `start`, as good as linear there.
    """
    if len(problem.x) <= MOST_REFITTED:
        return lambda losses: squares(problem, losses, again(problem, losses, start))
    fit, root, plane = problem.model.log_fit(start[None])[0], np.sqrt(problem.weights), basis(problem, start)

    def left(losses: Array) -> Array:
        errors = (losses - fit) * root
        return np.maximum((errors**2).sum(1) - ((errors @ plane) ** 2).sum(1), EXACT_FIT)

    return left


@dataclass(frozen=True, eq=False)
class Simulated:
    """Log losses that a fitted model could have given, a few draws (B, n) at a time; the same ones at every pass."""

    fitted: Fitted
    clusters: np.ndarray
    draws: int
    seed: int

    def __iter__(self) -> Iterator[Array]:
        rng = np.random.default_rng(self.seed)
        at_once = max(CELLS // len(self.clusters), 1)
        for first in range(0, self.draws, at_once):
            yield simulate(self.fitted, self.clusters, min(at_once, self.draws - first), rng)


def simulated(fitted: Fitted, clusters: np.ndarray, draws: int, rng: np.random.Generator) -> Iterable[Array]:
    """Log losses that the fitted model could have given: all draws at once where the runs are few."""
    if len(clusters) <= MOST_REFITTED:
        return [simulate(fitted, clusters, draws, rng)]
    return Simulated(fitted, clusters, draws, int(rng.integers(2**32)))


def refits(fitted: Fitted, losses: Iterable[Array]) -> Array:
    """The model's parameters at draws of the log losses, (draws, Q): refits, or one step each of many runs."""
    if len(fitted.problem.x) <= MOST_REFITTED:
        return np.concatenate([again(fitted.problem, part, fitted.theta) for part in losses])
    stepper = Stepper.at(fitted.problem, fitted.theta)
    return np.concatenate([stepper.disturbed(part - fitted.fit) for part in losses])


def again(problem: Problem, losses: Array, start: Array) -> Array:
    """Refits to every draw of the log losses (draws, n), from `start` (Q,)."""
    return refit(problem, losses, np.repeat(problem.weights[None], len(losses), axis=0), start)


def simulate(fitted: Fitted, clusters: np.ndarray, draws: int, rng: np.random.Generator) -> Array:
    """Log losses that the fitted model could have given, (draws, n); runs of one cluster share part of their error."""
    root = np.sqrt(fitted.problem.weights)
    shared = shared_within(clusters, (fitted.problem.log_loss - fitted.fit) * root)
    return fitted.fit + Noise(fitted.sigma / root, shared).draw(rng, draws, clusters)
