"""The doubt of one fit: its draws, its noise, the intervals of its parameters, by the methods that were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemscale.laws.doubt.draws import Sampler
from chemscale.laws.doubt.intervals import NO_BOUND, Choice, choose_method, left_over, parameter_intervals
from chemscale.laws.doubt.noise import Noise
from chemscale.laws.doubt.residuals import measured, short, small_sample
from chemscale.laws.doubt.seeds import MISSES, SeedNoise, log_size, seed_noise
from chemscale.laws.objectives import Array
from chemscale.laws.solver.numbers import parameters_of
from chemscale.laws.solver.problem import Problem
from chemscale.laws.tables.table import Rows

TAIL = 20  # 399 refits at 95 %; of 60, intervals covered 82 to 93 % in simulations of 16 to 36 runs
AT_BOUND = 1e-9  # of a typical loss


@dataclass(frozen=True)
class Doubt:
    """What `assess` found.

    draws (draws, P); noise (n,) log residuals of single runs, of the size that repeats tell where they do; intervals
    and standard errors by published name; warnings: sentences.
    """

    draws: Array
    noise: Array
    method: str
    intervals: dict[str, tuple[float, float]]
    errors: dict[str, float]
    choice: Choice
    seeds: SeedNoise | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What a law's provenance says of it."""
        return {
            "draws": self.method,
            "interval": self.choice.to_json(),
            "seed_noise": self.seeds.to_json() if self.seeds else None,
        }


def assess(problem: Problem, theta: Array, runs: Rows, asked: str, level: float, count: int, seed: int) -> Doubt:
    """The doubt of the fit theta (P,) by the method `asked` for, with `count` refits."""
    choice = choose_method(asked, int(runs.clusters.max()) + 1, count, int((~measured(problem)).sum()))
    seeds = seed_noise(problem, theta, runs.clusters)
    made = sampler(problem, theta, runs, seeds).draw(choice.draws, count, seed)
    draws, numbers = short(made.theta), parameters_of(problem)
    intervals = parameter_intervals(choice.parameters, problem, theta, runs.clusters, draws, level, numbers)
    widen = small_sample(level, left_over(problem, runs.clusters))
    errors = {name: widen * _half_68(number.outward(number.of(draws))) for name, number in numbers.items()}
    noise = short(_sized(made.noise, problem, seeds))
    said = (
        *_few(count, level),
        *_warnings(problem, theta, choice, seeds),
        *_stretched(problem, theta, choice, intervals),
    )
    return Doubt(draws, noise, made.method, intervals, errors, choice, seeds, said)


def sampler(problem: Problem, theta: Array, runs: Rows, seeds: SeedNoise | None) -> Sampler:
    """What draws of a fit are made of."""
    scale = seeds.at(log_size(problem)) if seeds is not None and seeds.tells else None
    imputed = np.zeros(len(runs)) if runs.imputed is None else runs.imputed
    return Sampler(problem, theta, runs.clusters, Noise.fitted(problem, theta, runs.clusters, scale), imputed)


def _sized(noise: Array, problem: Problem, seeds: SeedNoise | None) -> Array:
    """Residuals (n,) scaled to the noise of repeats at the largest run, where predictions are asked for.

    Where some losses are bounds the residuals seen are of lucky or unlucky runs, and the noise is the fitted one.
    """
    size = float(np.sqrt((noise**2).mean()))
    if not measured(problem).all() and size:
        return noise * problem.objective.spread * (np.sqrt(2) if problem.objective.robust else 1.0) / size
    if seeds is None or not seeds.tells or not size:
        return noise
    return noise * float(seeds.at(log_size(problem)[measured(problem)].max())) / size


def _few(count: int, level: float) -> tuple[str, ...]:
    needed = round(TAIL / (1 - level)) - 1
    if not 0 < count < needed:
        return ()
    return (
        f"{count} refits are few: standard errors and all intervals that rest on refits are rough, and those at "
        f"{level:.0%} cover too little; give bootstrap at least {needed}",
    )


def _warnings(problem: Problem, theta: Array, choice: Choice, seeds: SeedNoise | None) -> tuple[str, ...]:
    said = []
    named = zip(problem.form.inner, theta - problem.lower, strict=True)
    zero = [name for name, left in named if left <= AT_BOUND and name in problem.form.names]
    if zero and choice.parameters in NO_BOUND:
        said.append(
            f"{zero[0]} is at its lower bound, where interval={choice.parameters!r} has no theory; "
            f"interval='profile' or 'parametric' hold there, one-sided"
        )
    if seeds is not None and seeds.lack_of_fit is not None and seeds.lack_of_fit["p"] < MISSES:
        said.append(seeds.sentence)
    return tuple(said)


def _stretched(
    problem: Problem, theta: Array, choice: Choice, intervals: Mapping[str, tuple[float, float]]
) -> tuple[str, ...]:
    """Numbers that end their own interval, though at no bound: objective and likelihood weigh the runs differently."""
    near = np.minimum(theta - problem.lower, problem.form.upper - theta)
    if choice.parameters != "profile" or (near <= AT_BOUND).any():
        return ()
    values = {name: float(number.outward(number.of(theta[None]))[0]) for name, number in parameters_of(problem).items()}
    ends = [name for name, value in values.items() if value in intervals[name] and np.isfinite(value)]
    if not ends:
        return ()
    return (
        f"the likelihood's own interval of {', '.join(ends)} leaves out the fitted value and was stretched to it: runs "
        "that the law cannot describe pull objective and likelihood apart; leave out what is no run of this law",
    )


def _half_68(draws: Array) -> float:
    low, high = np.quantile(draws[np.isfinite(draws)], [0.1587, 0.8413])
    return float(high - low) / 2
