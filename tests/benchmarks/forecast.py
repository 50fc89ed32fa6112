"""What early stops save and what they cost, replayed on real searches whose every run was trained to its end.

    python -m tests.benchmarks.forecast_runs STORE --architecture chemgpt     (trains; goes on where it was killed)
    python -m tests.benchmarks.forecast STORE [--orders 20] [--slots 2]       (replays; minutes)

A replay takes the stored curves in a random order and gives each rule what it would have seen, point by point, with so
many runs at a time. `saved` is 1 - examples trained on / examples of all runs to their ends, calibration included;
`with evals` counts the evaluations on the way too, an example of one as a third of a trained one (a forward pass
without its backward), against training everything with one evaluation at the end. `regret` is the final validation
loss of the configuration that the rule chooses (the best of those that it finished) over that of the best of all, less
one; its yardstick is the spread between seeds of the best configuration. Every order is a replay of its own, and no
rule ever sees a point of a run that it has not paid for: scores are out of sample.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

from chemscale.records.store import Store
from chemscale.spec import RunSpec
from chemscale.sweep.backtest import LEAST, law_endings, regression_endings
from chemscale.sweep.curves import Curve
from chemscale.sweep.endings import stored_curve
from chemscale.sweep.forecast import CurveLaw
from chemscale.sweep.forecast_stop import ForecastStop
from chemscale.sweep.halving import ForecastHalving
from chemscale.sweep.known_curves import KnownCurves
from chemscale.sweep.stop import Forecast, Halving
from chemscale.sweep.tse import Regression, correlation, tse_ema
from tests.benchmarks.forecast_runs import REPLICATES

FORWARD = 1 / 3  # cost of an example in an evaluation, in units of one that is trained on
SHARES = (0.05, 0.1, 0.2, 0.5)
NEVER: Any = math.inf  # a run that cannot be judged yet keeps its slot


@dataclass(frozen=True)
class Trained:
    """One run to its end: its spec, its curve of validation losses, its training losses at the same points."""

    run: RunSpec
    curve: Curve
    train: tuple[float, ...]


@dataclass(frozen=True)
class Replay:
    """What one rule did in one order: the share of all training that it paid for, evaluations, what it chose."""

    spent: float
    evaluated: float
    regret: float


class Nobody:
    """A controller of Tune's without any other trial."""

    @staticmethod
    def get_live_trials() -> list[Any]:
        return []


class Played:
    """What schedulers see of a trial."""

    def __init__(self, number: int):
        self.trial_id, self.config, self.status = f"{number:05d}", {"number": number}, "RUNNING"


Rule = Callable[
    [Sequence[Trained], int], tuple[dict[int, float], int]
]  # runs in order, slots -> progress of each, chosen


def trained(store: Store, study: str) -> list[Trained]:
    """The runs of a study that ended by themselves."""
    found = []
    for run_id in store.studies()[study]["runs"]:
        rows = store.points(run_id).to_pylist()
        run, curve = store.spec(run_id), stored_curve(store, run_id)
        if curve.finished:
            found.append(Trained(run, curve, tuple(row["train_loss"] for row in rows)))
    return found


# -- rules ------------------------------------------------------------------------------------------------------------


def whole(runs: Sequence[Trained], slots: int) -> tuple[dict[int, float], int]:
    """No stopping."""
    return dict.fromkeys(range(len(runs)), 1.0), best_of(runs, range(len(runs)))


def scheduled(make: Callable[[Sequence[Trained]], TrialScheduler]) -> Rule:
    """A scheduler of Ray's, told of points in the order in which `slots` equal workers would reach them."""

    def rule(runs: Sequence[Trained], slots: int) -> tuple[dict[int, float], int]:
        scheduler: Any = make(runs)
        scheduler.set_search_properties("valid_loss", "min")
        trials = [Played(i) for i in range(len(runs))]
        reached: dict[int, float] = {}
        waiting = list(range(len(runs)))
        queue: list[tuple[float, int, int]] = []  # time, run, its next point
        for _ in range(min(slots, len(waiting))):
            start(scheduler, trials, waiting, queue, 0.0, runs)
        while queue:
            time, number, point = heapq.heappop(queue)
            curve = runs[number].curve
            result = {"examples": curve.examples[point], "valid_loss": curve.loss[point]}
            decision = scheduler.on_trial_result(Nobody, trials[number], result)
            reached[number] = curve.examples[point] / curve.total
            if decision == TrialScheduler.STOP or point + 1 == len(curve.examples):
                scheduler.on_trial_complete(Nobody, trials[number], result)
                if waiting:
                    start(scheduler, trials, waiting, queue, time, runs)
            else:
                heapq.heappush(queue, (time + step(curve, point + 1), number, point + 1))
        return reached, best_of(runs, [i for i, p in reached.items() if p >= 0.999])

    return rule


def start(scheduler: Any, trials: Any, waiting: list[int], queue: Any, time: float, runs: Sequence[Trained]) -> None:
    """Give a free worker the next run."""
    number = waiting.pop(0)
    scheduler.on_trial_add(Nobody, trials[number])
    heapq.heappush(queue, (time + step(runs[number].curve, 0), number, 0))


def step(curve: Curve, point: int) -> float:
    """Share of the training between a point and the one before."""
    return (curve.examples[point] - (curve.examples[point - 1] if point else 0.0)) / curve.total


def asha(grace: float, reduction: float) -> Rule:
    """Ray's ASHA."""
    return scheduled(
        lambda runs: ASHAScheduler(
            time_attr="examples", max_t=round(runs[0].curve.total), reduction_factor=reduction,
            grace_period=max(1, math.floor(grace * runs[0].curve.total)),
        )
    )  # fmt: skip


def median(grace: float) -> Rule:
    """Ray's median rule."""
    return scheduled(
        lambda runs: MedianStoppingRule(
            time_attr="examples", grace_period=grace * runs[0].curve.total, min_samples_required=3,
            min_time_slice=NEVER,
        )
    )  # fmt: skip


def forecast(stop: Forecast, prior: CurveLaw | None = None) -> Rule:
    """Ours."""

    def make(runs: Sequence[Trained]) -> TrialScheduler:
        known = KnownCurves(lambda config: runs[config["number"]].run, prior=prior)
        return ForecastStop(stop, known, round(runs[0].curve.total))

    return scheduled(make)


def keep_best(share: float, keep: int) -> Rule:
    """Everything for a while, then the best few to their ends (Egele et al. 2023)."""

    def rule(runs: Sequence[Trained], slots: int) -> tuple[dict[int, float], int]:
        early = [runs[i].curve.until(share).loss[-1] for i in range(len(runs))]
        kept = np.argsort(early)[:keep]
        return {i: 1.0 if i in kept else share for i in range(len(runs))}, best_of(runs, kept)

    return rule


def hyperband(reduction: int = 3, rungs: int = 2) -> Rule:
    """HyperBand (Li et al. 2018): brackets filled in turn, each halved synchronously."""
    sizes = [math.ceil((rungs + 1) / (s + 1) * reduction**s) for s in range(rungs, -1, -1)]

    def rule(runs: Sequence[Trained], slots: int) -> tuple[dict[int, float], int]:
        reached: dict[int, float] = {}
        left, bracket = list(range(len(runs))), 0
        while left:
            s = rungs - bracket % (rungs + 1)
            members, left = left[: sizes[bracket % (rungs + 1)]], left[sizes[bracket % (rungs + 1)] :]
            for rung in range(s, -1, -1):
                progress = float(reduction) ** -rung
                reached |= dict.fromkeys(members, progress)
                losses = [runs[i].curve.until(progress).loss[-1] for i in members]
                members = [members[j] for j in np.argsort(losses)[: max(1, len(members) // reduction)]]
            bracket += 1
        return reached, best_of(runs, [i for i, p in reached.items() if p >= 0.999])

    return rule


def tse_regression(share: float, calibrate: int, keep: int) -> Rule:
    """Frey et al. 2023: the first few to their ends, the rest for a while; the best forecasts go on."""

    def rule(runs: Sequence[Trained], slots: int) -> tuple[dict[int, float], int]:
        estimates = [estimate(run, share) for run in runs]
        law = Regression.fit(estimates[:calibrate], [final(runs[i]) for i in range(calibrate)])
        said = [law.predict(value).value for value in estimates[calibrate:]]
        kept = [calibrate + int(i) for i in np.argsort(said)[:keep]]
        done = [*range(calibrate), *kept]
        return {i: 1.0 if i in done else share for i in range(len(runs))}, best_of(runs, done)

    return rule


def halving(stop: Halving, prior: CurveLaw | None = None) -> Rule:
    """Ours whose runs wait for each other, under slots that take up what goes on before what is new."""

    def rule(runs: Sequence[Trained], slots: int) -> tuple[dict[int, float], int]:
        known = KnownCurves(lambda config: runs[config["number"]].run, prior=prior)
        scheduler = ForecastHalving(stop, known, len(runs))
        scheduler.set_search_properties("valid_loss", "min")
        reached = Waiting(runs, scheduler).play(slots)
        return reached, best_of(runs, [i for i, p in reached.items() if p >= 0.999])

    return rule


class Waiting:
    """A controller of Tune's whose trials pause and go on; it gives the scheduler points in the order of their time."""

    def __init__(self, runs: Sequence[Trained], scheduler: ForecastHalving):
        self._runs, self._scheduler = runs, scheduler
        self._new, self._reached = list(range(len(runs))), dict.fromkeys(range(len(runs)), 0)  # points of each run

    def nobody_comes(self) -> bool:
        """Whether all runs have begun."""
        return not self._new

    def stop_trial(self, trial: Any) -> None:
        """Tune's contract."""
        trial.status = "TERMINATED"
        self._scheduler.on_trial_remove(self, trial)

    def play(self, slots: int) -> dict[int, float]:
        """Progress of every run when nothing is left to do."""
        queue: list[tuple[float, int, Any]] = []  # time of its next point, run, trial
        time = 0.0
        while True:
            while len(queue) < slots and (trial := self._next()) is not None:
                self._push(queue, time, trial)
            if not queue:
                return {i: self._runs[i].curve.examples[count - 1] / self._runs[i].curve.total
                        for i, count in self._reached.items()}  # fmt: skip
            time, number, trial = heapq.heappop(queue)
            curve, point = self._runs[number].curve, self._reached[number]
            self._reached[number] += 1
            result = {"examples": curve.examples[point], "valid_loss": curve.loss[point]}
            if point + 1 == len(curve.examples):
                self._scheduler.on_trial_complete(self, trial, result)
            elif self._scheduler.on_trial_result(self, trial, result) == TrialScheduler.PAUSE:
                trial.status = "PAUSED"
            else:
                self._push(queue, time, trial)

    def _next(self) -> Any:
        chosen: Any = self._scheduler.choose_trial_to_run(self)
        if chosen is None and self._new:
            chosen = Played(self._new.pop(0))
            self._scheduler.on_trial_add(self, chosen)
        if chosen is not None:
            chosen.status = "RUNNING"
        return chosen

    def _push(self, queue: Any, time: float, trial: Any) -> None:
        number = trial.config["number"]
        heapq.heappush(queue, (time + step(self._runs[number].curve, self._reached[number]), number, trial))


def estimate(run: Trained, share: float) -> float:
    """TSE-EMA of the training losses so far, with the equal shares between points as epochs."""
    count = sum(e <= share * run.curve.total * (1 + 1e-9) for e in run.curve.examples)
    return tse_ema(run.train, max(1, count - 1), gamma=0.9)


def final(run: Trained) -> float:
    """The loss at the end."""
    assert run.curve.final is not None
    return run.curve.final


def best_of(runs: Sequence[Trained], among: Any) -> int:
    """The run with the lowest final loss among some."""
    return min(among, key=lambda i: final(runs[int(i)]))


# -- scores -----------------------------------------------------------------------------------------------------------


def replayed(runs: Sequence[Trained], rule: Rule, orders: int, slots: int) -> list[Replay]:
    """A rule on so many random orders."""
    best, out = min(final(run) for run in runs), []
    for seed in range(orders):
        mixed = [runs[i] for i in np.random.default_rng(seed).permutation(len(runs))]
        reached, chosen = rule(mixed, slots)
        spent = sum(reached.values()) / len(mixed)
        points = [sum(e <= p * run.curve.total * (1 + 1e-9) for e in run.curve.examples) for run, p in
                  zip(mixed, (reached[i] for i in range(len(mixed))), strict=True)]  # fmt: skip
        out.append(Replay(spent, spent + evaluations(mixed, points), final(mixed[chosen]) / best - 1))
    return out


def evaluations(runs: Sequence[Trained], points: Sequence[int]) -> float:
    """Cost of so many evaluations of each run, in units of all training."""
    seen = sum(count * (run.run.evaluation.valid or 0) for run, count in zip(runs, points, strict=True))
    return FORWARD * seen / sum(run.curve.total for run in runs)


def line(name: str, replays: Sequence[Replay]) -> str:
    """One row of the table: means, and the spread over orders."""
    saved = np.array([1 - r.spent for r in replays])
    counted = np.array([1 - r.evaluated for r in replays])
    regret = 100 * np.array([r.regret for r in replays])
    return (
        f"{name:44s} {100 * saved.mean():5.1f} ± {100 * saved.std():4.1f} {100 * counted.mean():7.1f} "
        f"{regret.mean():8.2f} ± {regret.std():4.2f} {np.quantile(regret, 0.9):7.2f}"
    )


def ranks(runs: Sequence[Trained]) -> str:
    """Spearman of forecasts against truth, every run forecast from the other folds."""
    truth = [final(run) for run in runs]
    columns: dict[str, list[str]] = {"last loss": [], "TSE-EMA regression": [], "curve law": []}
    for share in SHARES:
        line_ = regression_endings([estimate(run, share) for run in runs], truth)
        law = law_endings([run.curve for run in runs], share)
        last = [run.curve.until(share).loss[-1] for run in runs]
        for name, said in zip(columns, (last, [s.value for s in line_], [s.value for s in law]), strict=True):
            columns[name].append(f"{correlation(truth, said):.3f}")
    rows = [("Spearman at a share of", *(f"{100 * s:.0f} %" for s in SHARES)), *((n, *c) for n, c in columns.items())]
    return "\n".join(f"{row[0]:24s}" + "".join(f"{v:>9s}" for v in row[1:]) for row in rows)


def rules(count: int, prior: CurveLaw | None) -> dict[str, Rule]:
    """What is compared; `prior` is the law of another search."""
    few = max(2, count // 16)
    ranking = Forecast(margin=0.0, threshold=1e-9, calibrate=1, grace=0.025)  # only the net stops, by forecasts
    table: dict[str, Rule] = {
        "no stopping": whole,
        "ASHA 1/8, 3": asha(0.125, 3),
        "ASHA 1/20, 4": asha(0.05, 4),
        "ASHA 1/40, 4": asha(0.025, 4),
        "ASHA 1/40, 8": asha(0.025, 8),
        "HyperBand 3, 3 brackets": hyperband(),
        "HyperBand 3, 4 brackets": hyperband(3, 3),
        "median 1/4": median(0.25),
        "median 1/20": median(0.05),
        f"all to 1/8, best {few} to the end": keep_best(0.125, few),
        f"all to 1/20, best {few} to the end": keep_best(0.05, few),
        f"TSE regression at 1/8, 4 + {few} to the end": tse_regression(0.125, 4, few),
        "forecast stop": forecast(Forecast()),
        "forecast stop, margin 0, threshold 20 %": forecast(Forecast(margin=0.0, threshold=0.2)),
        "forecast stop, net from 1/20 by 3": forecast(Forecast(grace=0.05, reduction=3)),
        "forecasts rank in a net from 1/40 by 4": forecast(replace(ranking, reduction=4)),
        "forecasts rank in a net from 1/40 by 8": forecast(replace(ranking, reduction=8)),
        "halving of forecasts": halving(Halving()),
    }  # fmt: skip
    if prior is not None:
        table |= {
            "forecast stop after the other search": forecast(Forecast(margin=0.0, threshold=0.2, calibrate=2), prior),
            "halving of forecasts after the other search": halving(Halving(calibrate=0), prior),
        }
    return table


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args()
    store = Store(given.store)
    studies = [name for name in store.studies() if not name.startswith(REPLICATES)]
    searches = {name: runs for name in studies if len(runs := trained(store, name)) >= LEAST}
    for name, runs in searches.items():
        others = [run.curve for other, group in searches.items() if other != name for run in group]
        prior = CurveLaw.fit(others) if others else None
        print(f"\n{name}: {len(runs)} runs, {given.slots} at a time, {given.orders} orders")
        if REPLICATES + name in store.studies():
            seeds = np.array([final(run) for run in trained(store, REPLICATES + name)])
            if len(seeds) > 1:
                middle = np.median(seeds)
                spread, robust = seeds.std(ddof=1) / seeds.mean(), 1.4826 * np.median(abs(seeds - middle)) / middle
                print(f"spread between {len(seeds)} other seeds of the best: {100 * spread:.2f} %", end="; ")
                print(f"by their median absolute deviation {100 * robust:.2f} %")
        print(ranks(runs))
        print(f"\n{'':44s} saved, %     with evals regret, %    90 % of orders below")
        for label, rule in rules(len(runs), prior).items():
            print(line(label, replayed(runs, rule, 1 if rule is whole else given.orders, given.slots)), flush=True)


if __name__ == "__main__":
    main()
