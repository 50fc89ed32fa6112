"""From the records of a study to forecasts: where a run that was stopped early would have ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from chemscale.records.schema import DIVERGED, FINISHED, STOPPED
from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.curves import Curve, Schedule
from chemscale.sweep.forecast import CurveLaw, Ending

NEAR_ONE = ("optim.beta1", "optim.beta2", "optim.ema")  # effects are smooth in log(1 - value)
SHARES = ("optim.warmup", "optim.cooldown")  # effects are smooth in the value; others, above 0, in their logarithm
MOST_CURVES = 96  # that a law is fitted to: finished runs first, the newest of each
REFIT_AFTER = 8  # further curves, none of them finished, that make a law be fitted anew


def schedule_of(run: RunSpec) -> Schedule:
    """The schedule of a run's learning rate; a warm-up that is counted in updates or epochs as a share of them all."""
    optim = run.optim
    return Schedule(min(run.warmup, 1 - optim.cooldown), optim.cooldown, optim.shape)


def traits_of(run: RunSpec) -> dict[str, float]:
    """Every number of a run's optimiser, model and objective, on the scale on which its effect is smooth."""
    traits = {}
    for part in ("optim", "model", "objective"):
        node = getattr(run, part)
        for field in fields(node) if node is not None else ():
            scaled = _scaled(f"{part}.{field.name}", getattr(node, field.name))
            if scaled is not None:
                traits[f"{part}.{field.name}"] = scaled
    return traits


def _scaled(path: str, value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if path in NEAR_ONE:
        return math.log(max(1 - value, 1e-9))
    if path in SHARES:
        return float(value)
    return math.log(value) if value > 0 else None


def curve_of(run: RunSpec, points: Iterable[tuple[float, float]]) -> Curve:
    """The curve of a run from its (examples seen, validation loss)."""
    measured = sorted(dict(points).items())
    examples, losses = [x for x, _ in measured], [y for _, y in measured]
    return Curve(examples, losses, run.examples, schedule_of(run), traits_of(run))


def stored_curve(records: Store, run_id: str) -> Curve:
    """The curve of a run as far as the store knows it."""
    rows = records.points(run_id).select(["examples", "valid_loss"]).to_pylist()
    points = ((r["examples"], r["valid_loss"]) for r in rows if r["valid_loss"] is not None and r["valid_loss"] > 0)
    return curve_of(records.spec(run_id), points)


def cell_of(run: RunSpec) -> tuple[Any, ...]:
    """What runs must share for one law of their curves: architecture, data, length, objective."""
    return run.model.architecture, run.data.content, run.data.size, run.examples, run.precision, type(run.objective)


class Curves:
    """The curves of the ended runs of a study, read once each."""

    def __init__(self, records: Store, study: str):
        self._records, self._study = records, study
        self._read: dict[str, tuple[tuple[Any, ...], Curve]] = {}

    def like(self, run: RunSpec) -> list[Curve]:
        """Those of the runs of the same cell, but for the run itself."""
        self._update()
        here = cell_of(run)
        return [curve for i, (cell, curve) in self._read.items() if cell == here and i not in _own_id(run)]

    def all(self) -> list[Curve]:
        """Those of all cells.

        Raises:
            ValueError: the store has no such study.
        """
        if self._study not in self._records.studies():
            known = ", ".join(self._records.studies()) or "none"
            raise ValueError(
                f"Search.stop: earlier={self._study!r} is no study of {self._records.url}; it has {known}."
            )
        self._update()
        return [curve for _, curve in self._read.values()]

    def _update(self) -> None:
        for run_id in self._records.studies().get(self._study, {}).get("runs", ()):
            if run_id not in self._read and self._records.state(run_id).status in (FINISHED, STOPPED, DIVERGED):
                self._read[run_id] = (cell_of(self._records.spec(run_id)), stored_curve(self._records, run_id))


def _own_id(run: RunSpec) -> tuple[str, ...]:
    return () if run.missing else (run.id,)


class Endings:
    """Forecasts of the runs of one study, from a law for each of its cells that is fitted anew as runs end."""

    def __init__(self, records: Store, study: str):
        self._records, self._curves = records, Curves(records, study)
        self._laws: dict[tuple[Any, ...], tuple[tuple[int, int], CurveLaw]] = {}

    def ending_of(self, run_id: str) -> Ending | None:
        """Where a run would have ended; None where nothing was measured of it, or it diverged."""
        run, curve = self._records.spec(run_id), stored_curve(self._records, run_id)
        if curve.diverged or not len(curve.points()[0]):
            return None
        return self._law(run).predict(curve)

    def _law(self, run: RunSpec) -> CurveLaw:
        curves = self._curves.like(run)
        known = (sum(curve.finished for curve in curves), len(curves))
        before = self._laws.get(cell_of(run))
        if before is None or is_stale(before[0], known):
            before = (known, CurveLaw.fit(chosen(curves)))
            self._laws[cell_of(run)] = before
        return before[1]


def is_stale(fitted: tuple[int, int], now: tuple[int, int]) -> bool:
    """Whether a law fitted to so many (finished, all) curves should be fitted anew."""
    return now[0] > fitted[0] or now[1] >= fitted[1] + REFIT_AFTER


def chosen(curves: Sequence[Curve]) -> list[Curve]:
    """At most `MOST_CURVES` of these: finished ones first, the newest of each."""
    finished, others = [c for c in curves if c.finished], [c for c in curves if not c.finished]
    kept = finished[-MOST_CURVES:]
    return kept + others[len(others) - min(len(others), MOST_CURVES - len(kept)) :]


def as_record(ending: Ending | None) -> Mapping[str, float] | None:
    """What `Store.mark` keeps of a forecast."""
    return None if ending is None else {"loss": ending.value, "low": ending.low, "high": ending.high}
