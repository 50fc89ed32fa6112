"""What an exploration is after, and the next cell for it; a function of what the store holds, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import numpy as np

from chemscale.laws import FORMS, FitError, Law, fit
from chemscale.laws.designs.belief import PLAUSIBLE, Belief, plausible
from chemscale.laws.designs.design import BLIND, RULES, Design, choose_runs
from chemscale.laws.designs.search import Candidates
from chemscale.laws.forms import choose
from chemscale.laws.tables.meaning import DATA_OF
from chemscale.records.schema import DIVERGED, FINISHED
from chemscale.spec import RunSpec

ROLES = ("params", "data")
BOOTSTRAP = 400  # refits behind an interval that may end an exploration; fewer than 399 cover too little
SPARE = 3  # runs beyond the parameters of the form before an interval may end an exploration: it is luck until then
WIDTH = 0.1
UNITS = {"flops": "FLOPs", "device_hours": "device-hours"}

Row = Mapping[str, Any]


class Wanted(TypedDict, total=False):
    """What an exploration is asked for; see `Aim`. flops, device_hours: the budget, exactly one."""

    target: Mapping[str, float] | str
    width: float
    flops: float | None
    device_hours: float | None
    form: str
    rule: str


@dataclass(frozen=True)
class Aim:
    """Know a target to a width, for a budget at most.

    target: {"params": …, "data": …}, whose loss is to be predicted, or the name of a parameter. width: half the
    interval, as a share of a predicted loss (0.1 = 10 %), or of a parameter's value. unit: of the budget, "flops" or
    "device_hours". form: of the law. rule: by which runs are chosen, as of `choose_runs`.
    """

    target: Mapping[str, float] | str
    width: float
    budget: float
    unit: str = "flops"
    form: str = "chinchilla"
    rule: str = "v"

    @classmethod
    def of(cls, **wanted: Unpack[Wanted]) -> Aim:
        """An aim as it is asked for; ValueError without a target or just one budget, or with a word that is none."""
        known = Wanted.__annotations__
        for name in wanted:
            if name not in known:
                raise ValueError(f"{name}=… is nothing that an exploration is asked for; it takes {', '.join(known)}.")
        budgets = {unit: wanted.get(unit) for unit in UNITS}
        given = {unit: value for unit, value in budgets.items() if value is not None}
        if "target" not in wanted:
            also = "" if given else ", and one budget, flops or device_hours"
            raise ValueError(f"give a target, {{'params': …, 'data': …}} or the name of a parameter{also}.")
        form, rule = wanted.get("form", cls.form), wanted.get("rule", cls.rule)
        _require_target(wanted["target"], form)
        if len(given) != 1:
            told = ", ".join(f"{unit}={value!r}" for unit, value in budgets.items())
            raise ValueError(f"give one budget, flops or device_hours, and not {told}.")
        ((unit, budget),) = given.items()
        return cls(wanted["target"], wanted.get("width", WIDTH), budget, unit, form, rule)

    def __post_init__(self) -> None:
        for name in ("width", "budget"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value!r} must be a positive number.")
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r} is not one of {', '.join(RULES)}.")
        _require_target(self.target, self.form)

    @property
    def goal(self) -> np.ndarray | str:
        """As a design takes it."""
        return self.target if isinstance(self.target, str) else np.array([self.target[role] for role in ROLES], float)

    def interval(self, law: Law) -> tuple[float, float, float]:
        """Value of the target with its interval."""
        if isinstance(self.target, str):
            return (law.parameters.get(self.target) or np.nan, *law.interval(self.target))
        seen = law.predict(**self.target)
        return seen.value, seen.low, seen.high


def _require_target(target: Mapping[str, float] | str, form: str) -> None:
    """Raise ValueError for a target that laws of this form do not have, or a form that is none."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} is not one of {', '.join(FORMS)}; an exploration needs one of them.")
    if isinstance(target, str):
        names = choose(form, ROLES).names
        if target not in names:
            raise ValueError(
                f"target={target!r} is no parameter of {form}: {', '.join(names)}; or give params=…,data=…."
            )
        return
    values = [target.get(role) for role in ROLES]
    if set(target) != set(ROLES) or not all(v is not None and np.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"target={dict(target)} needs params=… and data=… as positive numbers.")


@dataclass(frozen=True)
class Cells:
    """The runs that may be made: points (n, 2) of parameters and unique data, and what each is estimated to cost."""

    runs: Sequence[RunSpec]
    points: np.ndarray
    costs: np.ndarray
    index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {run.id: i for i, run in enumerate(self.runs)})


@dataclass(frozen=True)
class Standing:
    """How far an exploration is.

    run: the next one; None where it ends, and `reason` says why ("narrow enough", "budget spent", "no run left",
    "no run teaches more", where those that can be paid lie too far from the target).
    law: of the runs so far; None where they give none, and `trouble` says why. spent: with what is under way.
    """

    run: RunSpec | None
    reason: str
    law: Law | None
    trouble: str
    value: float | None
    low: float | None
    high: float | None
    spent: float
    ahead: Design | None


def standing(aim: Aim, cells: Cells, rows: Iterable[Row], taken: Iterable[str]) -> Standing:
    """Where an exploration stands and what comes next.

    rows: of RUNS. taken: ids of runs that are under way or will not be tried again.
    """
    rows = [row for row in rows if row["run_id"] in cells.index]
    finished = [row for row in rows if row["status"] == FINISHED]
    ended = {row["run_id"] for row in rows if row["status"] in (FINISHED, DIVERGED)}
    under_way = [cells.index[i] for i in dict.fromkeys(taken) if i in cells.index and i not in ended]
    spent = sum(_cost(aim, cells, row) for row in rows if row["run_id"] in ended) + float(cells.costs[under_way].sum())
    law, trouble = _law(aim, finished)
    value, low, high = (None, None, None) if law is None else aim.interval(law)

    def stands(reason: str, run: RunSpec | None = None, ahead: Design | None = None) -> Standing:
        return Standing(run, reason, law, trouble, value, low, high, spent, ahead)

    if law is not None and _narrow(aim, law, value, low, high):
        return stands("narrow enough")
    copies = np.ones(len(cells.runs), int)
    copies[[cells.index[i] for i in ended]] = 0
    copies[under_way] = 0
    left = aim.budget - spent
    if not copies.any():
        return stands("no run left")
    if not (cells.costs[copies > 0] <= left).any():
        return stands("budget spent")
    seen = [] if law is not None else [cells.index[row["run_id"]] for row in finished]
    if law is None:
        beliefs = [Belief.before(ROLES, cells.points)]
    elif aim.rule in BLIND:
        beliefs = [Belief.of(law)]
    else:
        beliefs = plausible(law, () if isinstance(aim.target, str) else PLAUSIBLE)
    beliefs = [belief.with_runs(cells.points[[*seen, *under_way]]) for belief in beliefs]
    candidates = Candidates(cells.points, cells.costs, copies)
    ahead = choose_runs(beliefs, candidates, target=aim.goal, budget=left, rule=aim.rule)
    if not ahead.picks:
        return stands("no run teaches more")
    return stands("goes on", cells.runs[ahead.picks[0]], ahead)


def _narrow(aim: Aim, law: Law, value: Any, low: Any, high: Any) -> bool:
    enough = law.n_runs >= len(law.solution.theta) + SPARE
    return bool(enough and np.isfinite(value) and (high - low) / 2 <= aim.width * value)


def _law(aim: Aim, finished: Sequence[Row]) -> tuple[Law | None, str]:
    if not finished:
        return None, "no run has finished"
    metric = finished[0]["law_metric"]
    data = DATA_OF.get(metric, "examples")
    try:
        return fit(finished, form=aim.form, params="params", data=data, loss=metric, bootstrap=BOOTSTRAP), ""
    except (ValueError, FitError) as error:
        return None, str(error)


def _cost(aim: Aim, cells: Cells, row: Row) -> float:
    """What a run has cost, as it was measured where it was."""
    if aim.unit == "flops" and row.get("flops"):
        return float(row["flops"])
    if aim.unit == "device_hours" and row.get("device_seconds"):
        return float(row["device_seconds"]) / 3600
    return float(cells.costs[cells.index[row["run_id"]]])
