"""When a search stops a run before its end, as values; `sweep.schedulers` makes Ray's schedulers of them. Pure.

All of them count progress in examples seen, and compare runs of one cell only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chemscale.values import is_number, require


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving (Li et al. 2020).

    Args:
        grace: share of the whole training before which nothing stops.
        reduction: one in so many goes on at each rung.
    """

    grace: float = 0.125
    reduction: float = 3.0

    def __post_init__(self) -> None:
        _share("ASHA.grace", self.grace)
        require(is_number(self.reduction) and self.reduction > 1, "ASHA.reduction", self.reduction, "above 1")


@dataclass(frozen=True)
class HyperBand:
    """HyperBand (Li et al. 2018): brackets of successive halving, from "all to the end" to "many for a short time".

    Runs wait at each rung for the others of their bracket: a waiting run frees its slot and goes on from its state.

    Args:
        reduction: one in so many goes on at each rung.
        rungs: of the longest bracket; its first lies at `reduction ** -rungs` of the whole training.
    """

    reduction: int = 3
    rungs: int = 2

    def __post_init__(self) -> None:
        whole = isinstance(self.reduction, int) and self.reduction >= 2
        require(whole, "HyperBand.reduction", self.reduction, "a whole number of at least 2")
        require(isinstance(self.rungs, int) and self.rungs >= 1, "HyperBand.rungs", self.rungs, "at least 1")


@dataclass(frozen=True)
class Median:
    """The median rule (Golovin et al. 2017): a run stops whose best loss is above the median of the others' means.

    Args:
        grace: share of the whole training before which nothing stops, and from which on losses count.
        least: runs that must have come as far before one is stopped.
    """

    grace: float = 0.25
    least: int = 3

    def __post_init__(self) -> None:
        _share("Median.grace", self.grace)
        require(isinstance(self.least, int) and self.least >= 1, "Median.least", self.least, "at least 1")


@dataclass(frozen=True)
class Forecast:
    """Stops a run whose chance to end near the best one is small, by a law of the cell's training curves.

    Args:
        margin: a run counts as near the best up to this share above its final loss.
        threshold: the chance below which a run is stopped.
        calibrate: so many runs train to their end first; finished ones that the store holds count. Four, because the
            law's prior weighs as two runs, and its intervals as four.
        grace, reduction: of the safety net, successive halving as in `ASHA`, for runs that the law would keep.
        earlier: a search in the same store whose curves the law starts from; then fewer runs need to calibrate it.
    """

    margin: float = 0.01
    threshold: float = 0.05
    calibrate: int = 4
    grace: float = 0.25
    reduction: float = 4.0
    earlier: str | None = None

    def __post_init__(self) -> None:
        require(is_number(self.margin) and self.margin >= 0, "Forecast.margin", self.margin, "at least 0")
        good = is_number(self.threshold) and 0 < self.threshold < 1
        require(good, "Forecast.threshold", self.threshold, "above 0 and below 1")
        counted = isinstance(self.calibrate, int) and self.calibrate >= 1
        require(counted, "Forecast.calibrate", self.calibrate, "at least 1: without a finished run there is no best")
        _share("Forecast.grace", self.grace)
        require(is_number(self.reduction) and self.reduction > 1, "Forecast.reduction", self.reduction, "above 1")


@dataclass(frozen=True)
class Halving:
    """Successive halving (Karnin et al. 2013, Jamieson & Talwalkar 2016) of forecasts, for a known number of samples.

    All runs of a cell wait at each rung for the others; the best go on, ranked by where a law of the cell's training
    curves says that they will end. A waiting run frees its slot and goes on from its state. All samples are drawn
    before the first ends, so that a sampler learns nothing from ends: "qmc" spreads them best.

    Args:
        rungs: (share of the whole training, share of the cell's samples that go on from there), in order; one run goes
            on at least. A run waits at its first measurement at a rung or beyond it, so that rungs this early want
            `Evaluation(points=40)`.
        calibrate: so many runs train to their end at once, so that the law sees whole curves; finished ones that the
            store holds count. 0 where `earlier` or the store has some.
        earlier: a search in the same store whose curves the law starts from.
    """

    rungs: tuple[tuple[float, float], ...] = ((0.025, 1 / 4), (0.1, 1 / 12), (0.3, 3 / 64))
    calibrate: int = 1
    earlier: str | None = None

    def __post_init__(self) -> None:
        allowed = "pairs of shares above 0 and below 1, e.g. ((0.025, 0.25), (0.3, 0.05))"
        pairs = isinstance(self.rungs, tuple | list) and len(self.rungs) > 0 and all(map(_is_pair, self.rungs))
        require(pairs, "Halving.rungs", self.rungs, allowed)
        later = list(zip(self.rungs, self.rungs[1:], strict=False))
        falling = all(b[0] > a[0] and b[1] < a[1] for a, b in later)
        require(falling, "Halving.rungs", self.rungs, "shares of the training that grow, and shares kept that fall")
        counted = isinstance(self.calibrate, int) and self.calibrate >= 0
        require(counted, "Halving.calibrate", self.calibrate, "a whole number of at least 0")


def _is_pair(rung: Any) -> bool:
    return isinstance(rung, tuple | list) and len(rung) == 2 and all(is_number(v) and 0 < v < 1 for v in rung)


@dataclass(frozen=True)
class PBT:
    """Population based training (Jaderberg et al. 2017): the worst members copy the best, with changed hyperparameters.

    The samples of the search are its members; all train to the end. A member is no run of its spec: it has a lineage.

    Args:
        interval: share of the whole training between two comparisons.
        share: of the population that is copied, and that copies.
        resample: chance that a copied value is drawn anew instead of multiplied by one of `factors`.
    """

    interval: float = 0.125
    share: float = 0.25
    resample: float = 0.25
    factors: tuple[float, float] = (0.8, 1.25)

    def __post_init__(self) -> None:
        _share("PBT.interval", self.interval)
        require(is_number(self.share) and 0 < self.share <= 0.5, "PBT.share", self.share, "above 0 and at most 0.5")
        require(is_number(self.resample) and 0 <= self.resample <= 1, "PBT.resample", self.resample, "from 0 to 1")
        good = len(self.factors) == 2 and all(is_number(f) and f > 0 for f in self.factors)
        require(good, "PBT.factors", self.factors, "two numbers above 0")


def _share(name: str, value: float) -> None:
    require(is_number(value) and 0 < value <= 1, name, value, "above 0 and at most 1")


Stop = ASHA | HyperBand | Median | Forecast | Halving | PBT
