"""A fitted law: what it says, how sure it is, and its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from chemscale.laws.backtests.backtest import Backtest, beyond
from chemscale.laws.backtests.breaks import Break, find_breaks
from chemscale.laws.backtests.ensemble import Ensemble
from chemscale.laws.doubt.calibrate import Calibration, calibrate
from chemscale.laws.doubt.hygiene import Hygiene
from chemscale.laws.doubt.intervals import Profile, left_over, profile
from chemscale.laws.doubt.residuals import interval, small_sample
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.solver.numbers import loss_at, parameters_of
from chemscale.laws.solver.solve import Problem
from chemscale.laws.tables.cost import FlopsPerExample, MeasuredCost, six_n
from chemscale.laws.tables.table import Rows

NORMAL_95 = 1.96


@dataclass(frozen=True)
class Prediction:
    """The loss of one new run: central value and the interval at the law's level, in `units`.

    `extrapolates` is true outside the box of the runs that were fitted; `members` are the parts of an ensemble with
    their weights at this point.
    """

    at: dict[str, float]
    value: float
    low: float
    high: float
    units: str
    level: float
    extrapolates: bool
    members: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `chemscale fit`."""
        parts = {"members": list(self.members)} if self.members else {}
        return {"at": self.at, "value": self.value, "low": self.low, "high": self.high, **parts}


@dataclass(frozen=True)
class Optimum:
    """The best split of a compute budget: parameters and data with intervals, and the loss of such a run."""

    flops: float
    params: float
    data: float
    params_interval: tuple[float, float]
    data_interval: tuple[float, float]
    loss: Prediction
    cost: str


@dataclass(frozen=True)
class Solution:
    """The fit in the solver's coordinates, all that predictions need.

    theta (P,); draws (draws, P); noise (n,) log residuals; centre, low, high (axes,) natural logs of the fitted runs;
    log_scale the natural log of a typical loss.
    """

    theta: Array
    draws: Array
    noise: Array
    centre: Array
    low: Array
    high: Array
    log_scale: float

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in self.__dict__.items()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Solution:
        """The inverse of `to_json`."""
        arrays = {k: np.array(v, float) for k, v in found.items() if k != "log_scale"}
        return cls(**arrays, log_scale=float(found["log_scale"]))


@dataclass(frozen=True, eq=False)
class Law:
    """A scaling law with its doubt.

    `parameters` has None for what the data do not identify, with the reason in `warnings`; `standard_errors` are half
    the central 68 % of the draws; `intervals` are at `level`. `columns` maps params, data, flops, loss to
    {"name", "units"}. Predictions use the whole fit, identified or not: the loss can be known where its floor is not.
    `runs` are those that were fitted, so that residuals, profiles and comparisons can be made of a law alone.
    With an `ensemble` (form="auto") `form` and all that is said of parameters are the leading form's, and whatever is
    said of losses (`predict`, `losses`, `optimal`, `log_central`, `log_draws`) is the ensemble's.
    `hygiene` says what the fit leans on; None where it was fitted with bootstrap=0.
    """

    form: str
    columns: dict[str, dict[str, str]]
    parameters: dict[str, float | None]
    standard_errors: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    level: float
    objective: dict[str, Any]
    n_runs: int
    backtest: Backtest | None
    warnings: tuple[str, ...]
    solution: Solution = field(repr=False)
    runs: Rows = field(repr=False)
    cost: MeasuredCost | None = None
    scores: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)
    hygiene: Hygiene | None = field(default=None, repr=False)
    ensemble: Ensemble | None = field(default=None, repr=False)

    @property
    def shape(self) -> Form:
        """The functional form over this law's axes."""
        return choose(self.form, self.roles)

    @property
    def roles(self) -> tuple[str, ...]:
        """The axes: params, data or flops."""
        return tuple(self.provenance["axes"])

    @property
    def problem(self) -> Problem:
        """The fit as the solver saw it."""
        goal = Objective(
            self.objective["name"],
            self.objective["delta"] or Objective.delta,
            self.objective.get("spread", Objective.spread),
        )
        return Problem.over(self.shape, goal, self.runs)

    @cached_property
    def breaks(self) -> tuple[Break, ...]:
        """The likeliest break of the law along each axis, with the test of it."""
        return find_breaks(self.shape, self.runs)

    @property
    def units(self) -> str:
        """Unit of the loss."""
        return self.columns["loss"]["units"]

    @cached_property
    def widening(self) -> float:
        """Student's t over the normal for the runs, or groups of runs, that are left; it stretches draws."""
        return small_sample(self.level, left_over(self.problem, self.runs.clusters))

    def interval(self, name: str) -> tuple[float, float]:
        """Interval of one parameter at the law's level; ValueError for a name the form does not have."""
        if name not in self.intervals:
            raise ValueError(f"{name!r} is not a parameter of form={self.form!r}; it has {', '.join(self.intervals)}.")
        return self.intervals[name]

    def predict(self, **at: float) -> Prediction:
        """Loss of a new run, `law.predict(params=1e9, data=1e8)`, with an interval for that single run.

        The interval joins the draws of the parameters with the residual noise of one run, both stretched by
        Student's t over the normal for few runs, and is widened in quadrature by the part of the backtest's error that
        those two do not explain, in proportion to the distance beyond the fitted range once that exceeds a decade or
        the backtest's own. Without a backtest (see `warnings`) nothing guards against a wrong form. An ensemble's
        draws are spread over its members, and are stretched to the errors that its own backtests found at distances
        like the point's.
        """
        x = self._x(at)
        draws, value = self.log_draws(x)[:, 0], float(self.log_central(x)[0])
        noisy = draws + np.random.default_rng(0).choice(self._noise(), size=len(draws))
        widen = self.widening
        if self.ensemble is not None:
            widen = self.ensemble.stretch(x + self.solution.centre, self.level)
        low, high = interval(noisy, value, self.level, widen)
        wrong = NORMAL_95 * self.form_error(x)
        low, high = value - np.hypot(value - low, wrong), value + np.hypot(high - value, wrong)
        outside = self._outside(x) > 1e-9
        loss, low, high = np.exp([value, low, high]).tolist()
        point = {role: float(at[role]) for role in self.roles}
        members = self.ensemble.at(x + self.solution.centre) if self.ensemble else ()
        return Prediction(point, loss, low, high, self.units, self.level, outside, members)

    def profile(self, name: str, level: float | None = None) -> Profile:
        """Profile likelihood of one published parameter; ValueError for a name that the form does not have."""
        self.interval(name)  # refuses a name that is none
        problem = self.problem
        number = parameters_of(problem)[name]
        return profile(
            problem, self.solution.theta, self.runs.clusters, number, name, self.level if level is None else level
        )

    def profile_prediction(self, level: float | None = None, **at: float) -> Profile:
        """Profile likelihood of the law's loss at a point, `law.profile_prediction(params=1e9, data=1e8)`.

        Of the law and not of a single run there, which `predict` gives: noise and the error of form come on top.
        """
        problem, axes = self.problem, np.exp(self._x(at)[0] + self.solution.centre)
        name = ", ".join(f"{role}={at[role]:g}" for role in self.roles)
        number = loss_at(problem, axes)
        return profile(
            problem, self.solution.theta, self.runs.clusters, number, name, self.level if level is None else level
        )

    def calibrate(self, count: int = 500, *, at: Sequence[Mapping[str, float]] = (), **options: Any) -> Calibration:
        """True coverage of each interval method, by `count` simulated tables of this law's design.

        Options as `chemscale.laws.doubt.calibrate.calibrate`: noise, methods, truth, draws, level, seed.
        """
        for point in at:
            self._x(point)  # refuses a point that is none
        options = {"level": self.level, **options}
        return calibrate(self.problem, self.solution.theta, self.runs.clusters, count=count, at=at, **options)

    def losses(self, params: Any = None, data: Any = None, flops: Any = None, seen: Any = None) -> Array:
        """Central losses at arrays of axes, without intervals; as many as given."""
        given = {"params": params, "data": data, "flops": flops, "seen": seen}
        axes = [np.atleast_1d(np.asarray(given[role], float)) for role in self.roles]
        x = np.log(np.stack(np.broadcast_arrays(*axes), -1)) - self.solution.centre
        return np.exp(self.log_central(x.reshape(-1, len(self.roles)))).reshape(x.shape[:-1])

    def log_central(self, x: Array) -> Array:
        """Central log losses at centred logs x (points, axes): (points,)."""
        if self.ensemble is not None:
            return self.ensemble.log_central(x + self.solution.centre)
        return self.shape.bind(x).log_fit(self.solution.theta[None])[0] + self.solution.log_scale

    def log_draws(self, x: Array) -> Array:
        """Log losses of every draw at centred logs x (points, axes): (draws, points)."""
        if self.ensemble is not None:
            return self.ensemble.log_draws(x + self.solution.centre, len(self.solution.draws))
        return self.shape.bind(x).log_fit(self.solution.draws) + self.solution.log_scale

    def _noise(self) -> Array:
        """Log residuals of single runs, on the scale of the ensemble's members where there is one."""
        noise = self.solution.noise
        if self.ensemble is None:
            return noise
        return noise * (self.ensemble.noise / max(float(np.sqrt((noise**2).mean())), 1e-300))

    def form_error(self, x: Array) -> float:
        """Log error that the backtest found beyond noise and parameters, at the distance of x (1, axes).

        0 for an ensemble, whose draws are stretched instead.
        """
        if self.backtest is None or self.ensemble is not None:
            return 0.0
        tested = max(self.backtest.reach, np.log(10))
        return self.backtest.form_error * max(1.0, self._outside(x) / tested)

    def optimal(self, flops: float, flops_per_example: Callable[[Any], Any] | None = None) -> Optimum:
        """Parameters and data that a budget of FLOPs is best spent on, with intervals over the draws.

        `flops_per_example` gives FLOPs per unit of data at N parameters; without it the rule measured from the table
        is used, and 6 N where data are tokens. Raises ValueError for a law without both axes or without a cost rule.
        """
        rule, name = self._cost_rule(flops_per_example)
        if not (np.isfinite(flops) and flops > 0):
            raise ValueError(f"flops={flops!r} must be a positive number of FLOPs.")
        low, high = self.solution.low + self.solution.centre, self.solution.high + self.solution.centre
        grid = np.linspace(low[0] - 7, high[0] + 14, 600)  # natural logs: three decades below to six above
        params = np.exp(grid)
        data = flops / np.asarray(rule(params), float)
        x = np.stack([grid, np.log(data)], 1) - self.solution.centre
        best = grid_minimum(grid, self.log_central(x)[None])[0]
        spread = grid_minimum(grid, self.log_draws(x))
        edges = np.exp(interval(spread, best, self.level, self.widening))
        n, d = float(np.exp(best)), float(flops / rule(np.exp(best)))
        sides = sorted(float(flops / rule(edge)) for edge in edges)
        loss = self.predict(params=n, data=d)
        return Optimum(float(flops), n, d, (float(edges[0]), float(edges[1])), (sides[0], sides[1]), loss, name)

    def _cost_rule(self, given: Callable[[Any], Any] | None) -> tuple[FlopsPerExample, str]:
        if self.roles != ("params", "data"):
            raise ValueError(f"optimal needs a law of params and data; form={self.form!r} is over {self.roles}.")
        if given is not None:
            return given, "given"
        if self.cost is not None:
            return self.cost, "measured from the table"
        if self.columns["data"]["units"] == "tokens":
            return six_n, "6 N per token"
        raise ValueError(
            f"data are counted in {self.columns['data']['units']!r} and the table has no FLOPs, so the cost of a run "
            f"is unknown; pass flops_per_example, a function of the parameter count."
        )

    def _x(self, at: Mapping[str, float]) -> Array:
        missing = [role for role in self.roles if role not in at]
        if missing or any(not (np.isfinite(at[r]) and at[r] > 0) for r in self.roles):
            wanted = ", ".join(f"{role}=..." for role in self.roles)
            raise ValueError(f"predict needs {wanted} as positive numbers, and was given {dict(at)}.")
        return np.log([[float(at[role]) for role in self.roles]]) - self.solution.centre

    def _outside(self, x: Array) -> float:
        return float(beyond(x, np.stack([self.solution.low, self.solution.high]))[0])

    def to_json(self, at: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
        """The object of `chemscale fit`; `at` lists the points whose predictions go in.

        `provenance.solution` holds the draws and `provenance.runs` the runs, so that `from_json` gives the same law.
        """
        return {
            "form": self.form,
            "columns": self.columns,
            "parameters": dict(self.parameters),
            "standard_errors": dict(self.standard_errors),
            "intervals": {n: [v if np.isfinite(v) else None for v in pair] for n, pair in self.intervals.items()},
            "level": self.level,
            "objective": dict(self.objective),
            "n_runs": self.n_runs,
            "predictions": [self.predict(**point).to_json() for point in at],
            "backtest": self.backtest.to_json() if self.backtest else None,
            "warnings": list(self.warnings),
            "error": None,
            "scores": list(self.scores),
            "ensemble": self.ensemble.table() if self.ensemble else None,
            "breaks": [found.to_json() for found in self.breaks],
            "provenance": {
                **self.provenance,
                "cost": self.cost.to_json() if self.cost else None,
                "solution": self.solution.to_json(),
                "runs": self.runs.to_json(),
                "ensemble": self.ensemble.to_json() if self.ensemble else None,
            },
            "hygiene": self.hygiene.to_json() if self.hygiene else None,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Law:
        """The law of a `to_json` object; ValueError if the object is not one, or reports a failed fit."""
        if found.get("error") or "solution" not in found.get("provenance", {}):
            raise ValueError(f"this JSON holds no law: {found.get('error') or 'provenance.solution is missing'}.")
        provenance = dict(found["provenance"])
        cost, mixed = provenance.pop("cost"), provenance.pop("ensemble", None)
        return cls(
            found["form"], dict(found["columns"]), dict(found["parameters"]), dict(found["standard_errors"]),
            {
                name: (-np.inf if low is None else low, np.inf if high is None else high)
                for name, (low, high) in found["intervals"].items()
            },
            found["level"],
            dict(found["objective"]), found["n_runs"],
            Backtest.from_json(found["backtest"]) if found["backtest"] else None, tuple(found["warnings"]),
            Solution.from_json(provenance.pop("solution")), Rows.from_json(provenance.pop("runs")),
            MeasuredCost(**cost) if cost else None, tuple(found.get("scores", ())), provenance,
            Hygiene.from_json(found["hygiene"]) if found.get("hygiene") else None,
            Ensemble.from_json(mixed) if mixed else None,
        )  # fmt: skip


def grid_minimum(grid: Array, values: Array) -> Array:
    """Where each row of `values` (B, points) is lowest on an even `grid`, refined by a parabola, (B,)."""
    inner = np.clip(np.argmin(values, axis=1), 1, len(grid) - 2)
    rows = np.arange(len(values))
    left, mid, right = (values[rows, inner + k] for k in (-1, 0, 1))
    bend = left - 2 * mid + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1.0), 0.0)
    return grid[inner] + np.clip(shift, -1, 1) * (grid[1] - grid[0])


def failure(form: str, error: Exception, columns: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Any]:
    """The JSON object of a fit that failed: every key of `Law.to_json`, with `error` set."""
    empty: dict[str, Any] = {key: {} for key in ("parameters", "standard_errors", "intervals", "objective")}
    return {
        "form": form, "columns": dict(columns or {}), **empty, "level": None, "n_runs": None, "predictions": [],
        "backtest": None, "warnings": [], "error": str(error), "scores": [], "ensemble": None,
        "breaks": [], "provenance": {}, "hygiene": None,
    }  # fmt: skip


def named_columns(columns: Mapping[str, str], units: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Column names with their units; a column we do not know has its own name as unit."""
    return {role: {"name": name, "units": units[role]} for role, name in columns.items()}
