"""A fitted law: what it says, how sure it is, and its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from chemscale.laws.backtests.backtest import Backtest
from chemscale.laws.backtests.breaks import Break, find_breaks
from chemscale.laws.backtests.ensemble import Ensemble
from chemscale.laws.doubt.calibrate import calibrate
from chemscale.laws.doubt.coverage import Calibration
from chemscale.laws.doubt.hygiene import Hygiene
from chemscale.laws.doubt.intervals import Profile, left_over, profile
from chemscale.laws.doubt.likelihood import Likelihood
from chemscale.laws.doubt.residuals import small_sample
from chemscale.laws.doubt.seeds import SeedNoise
from chemscale.laws.forms import choose
from chemscale.laws.forms.form import Form
from chemscale.laws.objectives import Array, Objective
from chemscale.laws.optimum import Optimum, optima
from chemscale.laws.prediction import Prediction, Solution, centred, outside_of, predictions
from chemscale.laws.record import fields, record
from chemscale.laws.solver.numbers import loss_at, parameters_of
from chemscale.laws.solver.problem import Problem
from chemscale.laws.tables.cost import MeasuredCost
from chemscale.laws.tables.table import Rows

MOST_PROFILED = 1500  # runs; beyond, draws cover and a profile takes seconds


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

    @cached_property
    def likelihood(self) -> Likelihood:
        """The fit as a likelihood, for profiles and predictions."""
        return Likelihood.of(self.problem, self.solution.theta, self.runs.clusters)

    @property
    def profiled(self) -> bool:
        """Whether predictions are by profile likelihood."""
        chosen = self.provenance.get("interval", {})
        by_profile = isinstance(chosen, dict) and chosen.get("parameters") == "profile"
        return by_profile and self.ensemble is None and self.n_runs <= MOST_PROFILED

    @property
    def seeds(self) -> SeedNoise | None:
        """The noise that repeated runs tell; None where none are."""
        found = self.provenance.get("seed_noise")
        return SeedNoise(**found) if found else None

    @property
    def units(self) -> str:
        """Unit of the loss."""
        return self.columns["loss"]["units"]

    @property
    def after_loss(self) -> str:
        """What stands behind a loss: a space and the unit, or nothing where only the name of its column is known."""
        return "" if self.units == self.columns["loss"]["name"] else f" {self.units}"

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

        It joins the interval of the law at the point with the noise of one run there (`doubt.onerun`), in quadrature.
        The law's is that of its profile likelihood where the parameters' are (`interval` of `fit`), for up to
        `MOST_PROFILED` runs; otherwise the draws' stretched by Student's t over the normal for few runs. Both are
        widened by the part of the backtest's error that they do not explain, in proportion to the distance beyond the
        fitted range once that exceeds a decade or the backtest's own. Without a backtest (see `warnings`) nothing
        guards against a wrong form. An ensemble's draws are spread over its members, and are stretched to the errors
        that its own backtests found at distances like the point's.
        """
        return self.predictions([at])[0]

    def predictions(self, points: Sequence[Mapping[str, float]]) -> tuple[Prediction, ...]:
        """As `predict` for many points {axis: value}, which is much faster than one by one."""
        return predictions(self, points)

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
        problem, axes = self.problem, np.exp(centred(self, at)[0] + self.solution.centre)
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
            centred(self, point)  # refuses a point that is none
        options = {"level": self.level, **options}
        return calibrate(self.problem, self.solution.theta, self.runs, count=count, at=at, **options)

    def losses(self, params: Any = None, data: Any = None, flops: Any = None, seen: Any = None) -> Array:
        """Central losses at arrays of axes, without intervals; as many as given.

        Raises ValueError where an axis of the law is missing or not positive.
        """
        given = {"params": params, "data": data, "flops": flops, "seen": seen}
        axes = [np.atleast_1d(np.asarray(given[role], float)) for role in self.roles]  # None becomes NaN
        if not all((axis > 0).all() for axis in axes):
            raise ValueError(f"losses needs {' and '.join(self.roles)}, each of positive numbers.")
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

    def form_error(self, x: Array) -> float:
        """Log error that the backtest found beyond noise and parameters, at the distance of x (1, axes).

        0 for an ensemble, whose draws are stretched instead.
        """
        if self.backtest is None or self.ensemble is not None:
            return 0.0
        tested = max(self.backtest.reach, np.log(10))
        return self.backtest.form_error * max(1.0, float(outside_of(self, x)[0]) / tested)

    def optimal(self, flops: float, flops_per_example: Callable[[Any], Any] | None = None) -> Optimum:
        """Parameters and data that a budget of FLOPs is best spent on, with intervals over the draws.

        `flops_per_example` gives FLOPs per unit of data at N parameters; without it the rule measured from the table
        is used, and 6 N where data are tokens. Raises ValueError for a law without both axes or without a cost rule.
        """
        return self.optima([flops], [flops_per_example])[0]

    def optima(
        self, flops: Sequence[float], flops_per_example: Sequence[Callable[[Any], Any] | None] | None = None
    ) -> tuple[Optimum, ...]:
        """As `optimal` for many budgets, each with a rule of its own if given; much faster than one by one."""
        return optima(self, flops, [None] * len(flops) if flops_per_example is None else flops_per_example)

    def to_json(self, at: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
        """The object of `chemscale fit`; `at` lists the points whose predictions go in.

        `provenance.solution` holds the draws and `provenance.runs` the runs, so that `from_json` gives the same law.
        """
        return record(self, at)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Law:
        """The law of a `to_json` object; ValueError if the object is not one, or reports a failed fit."""
        return cls(**fields(found))


def named_columns(columns: Mapping[str, str], units: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Column names with their units; a column we do not know has its own name as unit."""
    return {role: {"name": name, "units": units[role]} for role, name in columns.items()}
