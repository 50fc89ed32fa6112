"""What a law says of single runs that were not made: central losses and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from chemscale.laws.backtests.backtest import beyond
from chemscale.laws.doubt.likelihood import around_run
from chemscale.laws.doubt.residuals import interval
from chemscale.laws.objectives import Array

if TYPE_CHECKING:
    from chemscale.laws.law import Law


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


def predictions(law: Law, points: Sequence[Mapping[str, float]]) -> tuple[Prediction, ...]:
    """A single run at each point, with its interval at the law's level; see `Law.predict`."""
    if not points:
        return ()
    x = np.concatenate([centred(law, at) for at in points])
    value = law.log_central(x)
    ends = _by_draws(law, x, value)
    if law.profiled:
        found = _by_profile(law, x, value)
        ends = np.where(np.isfinite(found), found, ends)  # where no loss fits that much worse, the draws' end stands
    wrong = float(ndtri(0.5 + law.level / 2)) * np.array([law.form_error(at[None]) for at in x])
    outside = outside_of(law, x) > 1e-9
    low, high = value - np.hypot(value - ends[:, 0], wrong), value + np.hypot(ends[:, 1] - value, wrong)
    said = []
    for i, at in enumerate(points):
        loss, least, most = np.exp([value[i], low[i], high[i]]).tolist()
        point = {role: float(at[role]) for role in law.roles}
        members = law.ensemble.at(x[i : i + 1] + law.solution.centre) if law.ensemble else ()
        said.append(Prediction(point, loss, least, most, law.units, law.level, bool(outside[i]), members))
    return tuple(said)


def _by_profile(law: Law, x: Array, value: Array) -> Array:
    """Ends of the log loss of one run at each of x (points, axes), (points, 2), by profile likelihood."""
    found = law.likelihood.losses(x, law.level) + law.solution.log_scale
    found = np.stack([np.minimum(found[:, 0], value), np.maximum(found[:, 1], value)], 1)
    noise = law.likelihood.noise(seeds=law.seeds)
    return around_run(value, found, np.array([noise.half(float(at.sum()), law.level) for at in x]))


def _by_draws(law: Law, x: Array, value: Array) -> Array:
    """The same from the law's draws and its residuals, stretched for few runs or to an ensemble's backtests."""
    out = []
    for at, centre in zip(x[:, None], value, strict=True):
        draws = law.log_draws(at)[:, 0]
        noisy = draws + np.random.default_rng(0).choice(_noise(law), size=len(draws))
        widen = law.widening if law.ensemble is None else law.ensemble.stretch(at + law.solution.centre, law.level)
        out.append(interval(noisy, float(centre), law.level, widen))
    return np.array(out)


def _noise(law: Law) -> Array:
    """Log residuals of single runs, on the scale of the ensemble's members where there is one."""
    noise = law.solution.noise
    if law.ensemble is None:
        return noise
    return noise * (law.ensemble.noise / max(float(np.sqrt((noise**2).mean())), 1e-300))


def centred(law: Law, at: Mapping[str, float]) -> Array:
    """A point as centred natural logs, (1, axes); ValueError where it is none."""
    try:
        axes = np.array([[float(at[role]) for role in law.roles]])
    except (KeyError, TypeError, ValueError):
        axes = np.zeros((1, 1))
    if not (np.isfinite(axes) & (axes > 0)).all():
        wanted = ", ".join(f"{role}=..." for role in law.roles)
        raise ValueError(f"predict needs {wanted} as positive numbers, and was given {dict(at)}.")
    return np.log(axes) - law.solution.centre


def outside_of(law: Law, x: Array) -> Array:
    """How far centred logs x (points, axes) lie beyond the fitted runs, natural logs, (points,)."""
    return beyond(x, np.stack([law.solution.low, law.solution.high]))
