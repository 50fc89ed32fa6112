"""The true coverage of each interval, by simulation of the user's own design.

The law's runs, with the fitted (or a given) law as the truth and noise of a chosen kind, are made up many times; each
table is fitted as the law was, each method gives its intervals, and how many hold the truth is counted. Fits,
normal approximations and profiles of all tables run at once; a bootstrap runs once per table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from chemscale.laws.doubt.draws import Sampler
from chemscale.laws.doubt.intervals import left_over, of_draws, standard_error
from chemscale.laws.doubt.noise import Noise
from chemscale.laws.doubt.profile import Tables, ends
from chemscale.laws.doubt.residuals import interval, measured, noise_scale, small_sample
from chemscale.laws.doubt.seeds import log_size
from chemscale.laws.objectives import Array
from chemscale.laws.solver.numbers import Number, loss_at, parameters_of
from chemscale.laws.solver.solve import Problem, newton, refit
from chemscale.laws.solver.tangent import CORNER, Tangent

SIMULATED = ("profile", "wald", "pairs", "wild", "parametric")
DRAWS = 399  # of each bootstrap; with 60 the quantiles are too short to cover


@dataclass(frozen=True)
class Coverage:
    """How often one method's interval of one quantity held the truth.

    standard_error: of `coverage`, from the number of tables; below, above: shares of intervals that lay wholly below or
    above the truth; width: median width of the interval (of the log, for amplitudes and losses).
    """

    quantity: str
    method: str
    coverage: float
    standard_error: float
    below: float
    above: float
    width: float


@dataclass(frozen=True)
class Calibration:
    """Coverage of every method for every quantity, over `count` simulated tables at `level`."""

    count: int
    level: float
    noise: str
    truth: dict[str, float]
    rows: tuple[Coverage, ...]

    def of(self, quantity: str, method: str) -> Coverage:
        """One entry; KeyError where it was not simulated."""
        for row in self.rows:
            if (row.quantity, row.method) == (quantity, method):
                return row
        raise KeyError(f"{quantity!r} by {method!r} was not simulated")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**self.__dict__, "rows": [dict(row.__dict__) for row in self.rows]}

    def table(self) -> str:
        """Coverage in percent with its standard error, quantities down and methods across."""
        methods = list(dict.fromkeys(row.method for row in self.rows))
        quantities = list(dict.fromkeys(row.quantity for row in self.rows))
        first = max(len(name) for name in (*quantities, "quantity"))
        lines = [f"{'quantity':<{first}}  " + "  ".join(f"{m:>12}" for m in methods)]
        for name in quantities:
            cells = [self.of(name, m) for m in methods]
            shown = "  ".join(f"{100 * c.coverage:>5.1f} ± {100 * c.standard_error:<4.1f}" for c in cells)
            lines.append(f"{name:<{first}}  {shown}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Simulated:
    """Tables made up: the design, the truth, losses (S, n), fits of the law's own objective (S, P)."""

    problem: Problem
    truth: Array
    clusters: np.ndarray
    losses: Array
    fits: Array

    def one(self, s: int) -> Problem:
        """The problem of one table."""
        return replace(self.problem, log_loss=self.losses[s])


Ends = Mapping[str, Array]  # quantity -> (S, 2) on the quantity's own scale


def calibrate(
    problem: Problem,
    theta: Array,
    clusters: np.ndarray,
    *,
    count: int,
    noise: str | Noise = "fitted",
    methods: Sequence[str] = SIMULATED,
    truth: Mapping[str, float] | None = None,
    at: Sequence[Mapping[str, float]] = (),
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Calibration:
    """Coverage of each of `methods` over `count` tables of the problem's design.

    noise: one of `noise.KINDS`, or a `Noise`; truth: published parameters, else the fit theta (P,); at: points whose
    law (`law at ...`) and whose next single run (`run at ...`) are asked for too.
    Raises ValueError for an unknown method or kind of noise, fewer than 20 tables, a truth that the form cannot have,
    losses that are bounds.
    """
    _check(methods, count)
    if not measured(problem).all():
        raise ValueError(
            "calibrate cannot make up stopped runs, whose bounds hang on the rule that stopped them; calibrate a law "
            "of the finished runs."
        )
    rng = np.random.default_rng(seed)
    real = theta if truth is None else theta_of(problem, theta, truth)
    model = noise if isinstance(noise, Noise) else Noise.fitted(problem, theta, clusters).kind(noise, log_size(problem))
    losses = problem.model.log_fit(real[None]) + model.draw(rng, count, clusters)
    weights = np.repeat(problem.weights[None], count, 0)
    made = Simulated(problem, real, clusters, losses, refit(problem, losses, weights, real))
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
    return Calibration(count, level, noise if isinstance(noise, str) else "given", published, tuple(rows))


def _check(methods: Sequence[str], count: int) -> None:
    unknown = [m for m in methods if m not in SIMULATED]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(SIMULATED)}.")
    if count < 20:
        raise ValueError(
            f"calibrate={count!r} tables tell nothing of coverage; give at least 20, 500 is a good number."
        )


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
    """As `intervals.Likelihood`, for all tables at once."""
    problem, count = made.problem, len(made.losses)
    weights = np.repeat(problem.weights[None], count, 0)
    scales = np.array([noise_scale(made.one(s), made.fits[s]) for s in range(count)])
    goal = problem.objective.likelihood(CORNER * float(np.median(scales)))
    best = newton(problem.model, goal, made.losses, weights, made.fits, problem.form.upper, 60, lower=problem.lower)
    tables = Tables(problem.model, goal, problem.lower, problem.form.upper, made.losses, weights, best)
    tangent = Tangent.at(problem.model, goal, made.losses, weights, best, made.clusters)
    out: dict[str, Array] = {}
    for name, number in numbers.items():
        spread = tangent.spread(number.gradient(best))
        most = student.ppf(0.5 + level / 2, spread.freedom) * np.sqrt(spread.sound / spread.model)
        fitted = number.of(made.fits)
        pair = ends(tables, number, spread.model, most)
        out[name] = np.stack([np.minimum(pair[:, 0], fitted), np.maximum(pair[:, 1], fitted)], 1)
        if name.startswith("law at"):
            half = student.ppf(0.5 + level / 2, left_over(problem, made.clusters)) * scales
            low, high = np.hypot(fitted - out[name][:, 0], half), np.hypot(out[name][:, 1] - fitted, half)
            out["run" + name[3:]] = np.stack([fitted - low, fitted + high], 1)
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
    noise = Noise.fitted(problem, theta, clusters)
    found = Sampler(problem, theta, clusters, noise, np.zeros(len(clusters))).draw(method, draws, seed + s)
    left = left_over(problem, clusters)
    rng = np.random.default_rng(seed + s)
    for name, number in numbers.items():
        at, spread = float(number.of(theta[None])[0]), number.of(found.theta)
        yield name, of_draws(spread, at, level, left)
        if name.startswith("law at"):
            noisy = spread + rng.choice(found.noise, size=len(spread))
            yield "run" + name[3:], interval(noisy, at, level, small_sample(level, left))


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
