"""The true coverage of each interval, by simulation of the user's own design.

The law's runs, with the fitted (or a given) law as the truth and noise of a chosen kind, are made up many times; each
table is fitted as the law was, each method gives its intervals, and how many hold the truth is counted. Fits,
normal approximations and profiles of all tables run at once, unless runs were stopped; a bootstrap runs once per table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from chemscale.laws.doubt.assess import sampler
from chemscale.laws.doubt.coverage import Calibration, Coverage
from chemscale.laws.doubt.intervals import left_over, of_draws, standard_error
from chemscale.laws.doubt.likelihood import Likelihood, around_run
from chemscale.laws.doubt.noise import Noise
from chemscale.laws.doubt.residuals import interval, measured, noise_scale, small_sample
from chemscale.laws.doubt.seeds import log_size, seed_noise
from chemscale.laws.doubt.simulate import Simulated, described, simulate, theta_of
from chemscale.laws.errors import require_level
from chemscale.laws.objectives import Array
from chemscale.laws.solver.numbers import LogLoss, Number, loss_at, parameters_of
from chemscale.laws.solver.problem import Problem
from chemscale.laws.tables.table import Rows

SIMULATED = ("profile", "wald", "pairs", "wild", "parametric")
FULL_ONLY = ("wild", "parametric")  # methods that cannot make up stopped runs
DRAWS = 399  # of each bootstrap; with 60 the quantiles are too short to cover


Ends = Mapping[str, Array]  # quantity -> (S, 2) on the quantity's own scale


def calibrate(
    problem: Problem,
    theta: Array,
    runs: Rows,
    *,
    count: int,
    noise: str | Noise = "fitted",
    methods: Sequence[str] | None = None,
    truth: Mapping[str, float] | None = None,
    at: Sequence[Mapping[str, float]] = (),
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Calibration:
    """Coverage of each of `methods` over `count` tables of the runs' design.

    noise: one of `noise.KINDS`, or a `Noise`; "fitted" is the law's own: what repeated runs tell, where they do, else
        the residuals, with what clusters share. Stopped runs and forecasts are made up too, see `simulate`
    methods: of `SIMULATED`; by default all that the runs allow
    truth: published parameters, else the fit theta (P,); at: points whose law (`law at ...`) and whose next single run
        (`run at ...`) are asked for too

    Raises ValueError for an unknown method or kind of noise, a level that is none, fewer than 20 tables, a truth that
    the form cannot have, a method that cannot make up stopped runs.
    """
    methods = _methods(problem, methods)
    require_level(level)
    if count < 20:
        raise ValueError(
            f"calibrate={count!r} tables tell nothing of coverage; give at least 20, 500 is a good number."
        )
    rng = np.random.default_rng(seed)
    real = theta if truth is None else theta_of(problem, theta, truth)
    own = sampler(problem, theta, runs, seed_noise(problem, theta, runs.clusters)).noise
    model = noise if isinstance(noise, Noise) else own.kind(noise, log_size(problem))
    made = simulate(problem, runs, real, model, count, rng)
    points = {_named(point): loss_at(problem, np.array([point[r] for r in problem.form.roles])) for point in at}
    numbers: dict[str, Number] = {**parameters_of(problem), **{f"law at {k}": v for k, v in points.items()}}
    actual = {name: np.full(count, number.of(real[None])[0]) for name, number in numbers.items()}
    for name, number in points.items():
        sd = model.scale[np.argmin(np.abs(log_size(problem) - number.x.sum()))]
        one = replace(model, scale=np.array([sd])).draw(rng, count, np.zeros(1, int))[:, 0]
        actual[f"run at {name}"] = actual[f"law at {name}"] + one
    rows = [
        _count(name, method, pair, actual[name])
        for method in methods
        for name, pair in _intervals(method, made, numbers, level, draws, seed).items()
    ]
    published = {
        name: float(number.outward(number.of(real[None]))[0]) for name, number in parameters_of(problem).items()
    }
    kind = noise if isinstance(noise, str) else "given"
    return Calibration(
        count, level, kind, published, tuple(rows), described(problem, runs, model, kind, count)
    )  # fmt: skip


def _methods(problem: Problem, asked: Sequence[str] | None) -> tuple[str, ...]:
    bounds = not measured(problem).all()
    if asked is None:
        return tuple(m for m in SIMULATED if not (bounds and m in FULL_ONLY))
    unknown = [m for m in asked if m not in SIMULATED]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(SIMULATED)}.")
    wrong = [m for m in asked if m in FULL_ONLY] if bounds else []
    if wrong:
        raise ValueError(f"method {wrong[0]!r} cannot make up stopped runs; use 'profile', 'pairs' or 'wald'.")
    return tuple(asked)


def _named(point: Mapping[str, float]) -> str:
    return ", ".join(f"{role}={value:g}" for role, value in point.items())


def _count(name: str, method: str, pair: Array, actual: Array) -> Coverage:
    below, above = (pair[:, 1] < actual).mean(), (pair[:, 0] > actual).mean()
    inside = float(((pair[:, 0] <= actual) & (actual <= pair[:, 1])).mean())
    error = float(np.sqrt(inside * (1 - inside) / len(actual)))
    return Coverage(name, method, inside, error, float(below), float(above), float(np.median(pair[:, 1] - pair[:, 0])))


def _intervals(
    method: str, made: Simulated, numbers: Mapping[str, Number], level: float, draws: int, seed: int
) -> Ends:
    if method == "profile":
        return _profiled(made, numbers, level)
    one = _wald if method == "wald" else _drawn
    found: dict[str, list[tuple[float, float]]] = {}
    for s in range(len(made.losses)):
        for name, pair in one(method, made, s, numbers, level, draws, seed):
            found.setdefault(name, []).append(pair)
    return {name: np.array(pairs) for name, pairs in found.items()}


def _profiled(made: Simulated, numbers: Mapping[str, Number], level: float) -> Ends:
    """As a law's own, for all tables at once where they have one objective."""
    if made.problems:
        parts = [Likelihood.of(one, fit, made.clusters) for one, fit in zip(made.problems, made.fits, strict=True)]
    else:
        parts = [Likelihood.over(made.problem, made.losses, made.fits, made.clusters)]
    places = [(part, k) for part in parts for k in range(len(part.tables.theta))]
    noises = [part.noise(k, made.seeds(s)) for s, (part, k) in enumerate(places)]
    out: dict[str, Array] = {}
    for name, number in numbers.items():
        fitted = number.of(made.fits)
        pair = np.concatenate([part.ends(number, level)[0] for part in parts])
        out[name] = np.stack([np.minimum(pair[:, 0], fitted), np.maximum(pair[:, 1], fitted)], 1)
        if isinstance(number, LogLoss):
            half = np.array([noise.half(float(number.x.sum()), level) for noise in noises])
            out["run" + name[3:]] = around_run(fitted, out[name], half)
    return out


Pairs = Iterator[tuple[str, tuple[float, float]]]


def _wald(
    method: str, made: Simulated, s: int, numbers: Mapping[str, Number], level: float, draws: int, seed: int
) -> Pairs:
    problem, theta = made.one(s), made.fits[s]
    quantile = float(student.ppf(0.5 + level / 2, left_over(problem, made.clusters)))
    for name, number in numbers.items():
        at, error = float(number.of(theta[None])[0]), standard_error(problem, theta, number)
        yield name, (at - quantile * error, at + quantile * error)
        if name.startswith("law at"):
            error = float(np.hypot(error, noise_scale(problem, theta)))
            yield "run" + name[3:], (at - quantile * error, at + quantile * error)


def _drawn(
    method: str, made: Simulated, s: int, numbers: Mapping[str, Number], level: float, draws: int, seed: int
) -> Pairs:
    problem, theta, clusters = made.one(s), made.fits[s], made.clusters
    found = sampler(problem, theta, made.runs, made.seeds(s)).draw(method, draws, seed + s)
    left = left_over(problem, clusters)
    rng = np.random.default_rng(seed + s)
    for name, number in numbers.items():
        at, spread = float(number.of(theta[None])[0]), number.of(found.theta)
        yield name, of_draws(spread, at, level, left)
        if name.startswith("law at"):
            noisy = spread + rng.choice(found.noise, size=len(spread))
            yield "run" + name[3:], interval(noisy, at, level, small_sample(level, left))
