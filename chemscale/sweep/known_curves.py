"""The training curves of a cell while its runs train: as trials report them, with a law that is fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial

from chemscale.spec import RunSpec
from chemscale.sweep.curves import Curve
from chemscale.sweep.endings import chosen, curve_of, is_stale
from chemscale.sweep.forecast import CurveLaw


def foretells(loss: float | None) -> bool:
    """Whether a loss is a point of a curve: laws of curves are laws of positive losses."""
    return loss is not None and loss > 0


class KnownCurves:
    """What a scheduler that forecasts knows of the runs of one cell.

    Args:
        run_of: configuration of a trial -> its run.
        earlier: curves of runs that ended before, which the store holds of this cell.
        prior: law of an earlier search.
        begun: run id -> the curve of a run that an earlier driver left unfinished.
    """

    def __init__(
        self,
        run_of: Callable[[Mapping[str, Any]], RunSpec],
        *,
        earlier: Sequence[Curve] = (),
        prior: CurveLaw | None = None,
        begun: Mapping[str, Curve] | None = None,
    ):
        self._run_of, self._earlier, self._prior, self._begun = run_of, list(earlier), prior, begun or {}
        self._points: dict[str, list[tuple[float, float]]] = {}
        self._curves: dict[str, Curve] = {}
        self._law: CurveLaw | None = None
        self._fitted = (0, 0)

    def begin(self, trial: Trial) -> Curve | None:
        """What an earlier driver left of a new trial's run; None where it left nothing."""
        curve = self._begun.get(self._run_of(trial.config).id) if self._begun else None
        if curve is None or not len(curve.examples):
            return None
        self._points[trial.trial_id] = list(zip(curve.examples, curve.loss, strict=True))
        self._curves[trial.trial_id] = curve
        return curve

    def note(self, trial: Trial, examples: float, loss: float) -> Curve:
        """The curve of a trial with one more point."""
        points = self._points.setdefault(trial.trial_id, [])
        points.append((float(examples), float(loss)))
        curve = curve_of(self._run_of(trial.config), points)
        self._curves[trial.trial_id] = curve
        return curve

    def note_end(self, trial: Trial, examples: float, loss: float) -> None:
        """The last point of a trial, unless it is known or foretells nothing."""
        points = self._points.get(trial.trial_id)
        if foretells(loss) and not (points and points[-1][0] >= examples):
            self.note(trial, examples, loss)

    def of(self, trial_id: str) -> Curve | None:
        """The curve of a trial; None before its first point."""
        return self._curves.get(trial_id)

    def trials(self) -> Mapping[str, Curve]:
        """Curves by trial."""
        return self._curves

    def all(self) -> list[Curve]:
        """Those of earlier runs and of all trials."""
        return [*self._earlier, *self._curves.values()]

    def finals(self) -> list[float]:
        """The losses at the end of those that came there."""
        return [curve.final for curve in self.all() if curve.final is not None]

    def law(self) -> CurveLaw:
        """The law of all that is known now."""
        known = self.all()
        self._law = CurveLaw.fit(chosen(known), self._prior)
        self._fitted = (sum(curve.finished for curve in known), len(known))
        return self._law

    def recent_law(self) -> CurveLaw:
        """A law that not much has changed since; fitted anew where it has."""
        known = (len(self.finals()), len(self.all()))
        return self.law() if self._law is None or is_stale(self._fitted, known) else self._law
