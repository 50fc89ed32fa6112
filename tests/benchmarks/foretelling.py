"""How far off form="auto" is beyond the runs it was fitted to, where the truth is planted: truths x designs.

    python -m tests.benchmarks.foretelling [grids curves] [--repeats 2] [--only TRUTH] [--seed 0]

One line per truth and design: rmsle of the best single form in hindsight, of the form of the truth (grids), and of
auto, all against noise-free losses averaged over repeats; the ratio of auto to the best; the share of noisy rows beyond
that lie inside its 95 % interval, half that interval's width in logs, and seconds of CPU a fit. The grids are those of
overtraining studies (ladder), squares, IsoFLOP profiles and runs read at many amounts of data (readings); runs beyond
are up to seventeen times larger in N. Curves are read up to 2.1 or 5 times further than fitted, with errors that
neighbours share or not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chemscale.laws import FitError, fit
from chemscale.laws.forms import applicable

Pair = tuple[np.ndarray, np.ndarray]
NOISE = (0.003, 0.01)  # of a run's log loss, in turn
DESIGNS = ("ladder", "square", "isoflop", "readings")
GRID_TRUTHS = ("chinchilla", "tied", "gamma", "varying", "kaplan")
CURVE_TRUTHS = ("power_floor", "hill", "one break", "two breaks")
STYLES = ("few", "dense", "steps")
MIDDLE = np.log(1e8), np.log(2e9)  # N and D at which both terms are of the order of the floor


@dataclass(frozen=True)
class Case:
    """Runs to fit, and points beyond with their losses as measured and without noise."""

    truth: str
    design: str
    columns: dict[str, np.ndarray]
    beyond: dict[str, np.ndarray]
    measured: np.ndarray
    exact: np.ndarray


@dataclass
class Score:
    """Errors of each form over the repeats of a case, and what the intervals of auto held."""

    errors: dict[str, list[float]] = field(default_factory=dict)
    inside: list[bool] = field(default_factory=list)
    half: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def grids(repeats: int, seed: int) -> Iterator[Case]:
    """Every truth of two axes on every design."""
    for i, truth in enumerate(GRID_TRUTHS):
        for j, design in enumerate(DESIGNS):
            for repeat in range(repeats):
                rng = np.random.default_rng([seed, repeat, i, j])
                loss, (fitted, beyond) = grid_truth(truth, rng), grid_design(design, rng)
                noise = NOISE[repeat % 2]
                yield _case(truth, design, ("params", "data"), loss, fitted, beyond,
                            lambda n, s=noise, r=rng: s * r.normal(size=n))  # fmt: skip


def curves(repeats: int, seed: int) -> Iterator[Case]:
    """Every truth of one axis on every style of curve."""
    for i, truth in enumerate(CURVE_TRUTHS):
        for j, style in enumerate(STYLES):
            for repeat in range(repeats):
                rng = np.random.default_rng([seed, repeat, i, j])
                loss, fitted = curve_truth(truth, rng), curve_design(style, rng)
                end = fitted.max() + np.linspace(0, np.log((2.1, 5.0)[repeat % 2]), 13)[1:]
                together = 0.0 if style == "few" else rng.choice([0.0, 0.5, 0.9])
                noise = rng.choice([0.002, 0.006, 0.015])
                yield _case(truth, style, ("data",), loss, (fitted,), (end,),
                            lambda n, s=noise, a=together, r=rng: s * _neighbours(n, a, r))  # fmt: skip


def grid_truth(truth: str, rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Loss over centred logs of N and D."""
    floor, a, b = rng.uniform(1.2, 2.2), rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)
    alpha, beta = rng.uniform(0.25, 0.5), rng.uniform(0.22, 0.45)
    if truth == "gamma":
        g = rng.uniform(0.4, 0.9)
        return lambda n, d: floor + (a ** (1 / g) * np.exp(-alpha / g * n) + b ** (1 / g) * np.exp(-beta / g * d)) ** g
    if truth == "varying":
        bend = rng.uniform(-0.03, 0.05) / np.log(10)
        return lambda n, d: floor + a * np.exp(-alpha * n) + b * np.exp(-(beta + bend * n) * d)
    if truth == "kaplan":
        data, params = rng.uniform(0.07, 0.12), rng.uniform(0.05, 0.1)
        return lambda n, d: 3 * (np.exp(-params / data * n) + np.exp(-d)) ** data
    if truth == "tied":
        beta = alpha
    return lambda n, d: floor + a * np.exp(-alpha * n) + b * np.exp(-beta * d)


def grid_design(design: str, rng: np.random.Generator) -> tuple[Pair, Pair]:
    """Centred logs of N and D of the runs fitted and of those beyond."""
    if design == "ladder":
        sizes, ratios = np.geomspace(1.1e7, 4.1e8, 5), 5 * 2.0 ** np.arange(8)
        n, ratio = _some(sizes, ratios, rng)
        fitted, beyond = (n, n * ratio), ([1.4e9, 1.4e9, 1.4e9, 6.9e9], [2.8e10, 1.1e11, 4.5e11, 1.4e11])
    elif design == "isoflop":
        flops = np.repeat(np.geomspace(6e17, 2e19, 6), 7)
        n = np.sqrt(flops / 120) * np.tile(np.geomspace(0.3, 3.3, 7), 6)
        large = np.sqrt(np.array([1e20, 1e21]) / 120)
        fitted, beyond = (n, flops / 6 / n), ([*large, *(2 * large)], [*(20 * large), *(10 * large)])
    else:
        sides = {"square": (np.geomspace(2e7, 6e8, 5), np.geomspace(5e8, 2e10, 5)),
                 "readings": (np.geomspace(2e7, 5e8, 6), np.geomspace(4e8, 1.5e10, 20))}[design]  # fmt: skip
        n, d = np.meshgrid(*sides)
        fitted, beyond = (n.ravel(), d.ravel()), ([6e8, 2e9, 2e9, 6e9], [6e10, 2e10, 6e10, 2e11])
    logs = [tuple(np.log(np.asarray(v)) - m for v, m in zip(side, MIDDLE, strict=True)) for side in (fitted, beyond)]
    return logs[0], logs[1]  # type: ignore[return-value]


def _some(sizes: np.ndarray, ratios: np.ndarray, rng: np.random.Generator) -> Pair:
    """Four in five of all pairs."""
    n, ratio = (axis.ravel() for axis in np.meshgrid(sizes, ratios))
    kept = rng.random(len(n)) < 0.8
    return n[kept], ratio[kept]


def curve_truth(truth: str, rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Loss over the log of the data, from 0 at the first row."""
    floor, slope = rng.choice([0, 0.05, 0.2, 0.5]) * rng.uniform(0.5, 1.5), rng.uniform(0.15, 0.8)
    if truth == "hill":
        start = rng.uniform(0, 3)
        return lambda x: floor + 1 / (1 + np.exp(slope * (x - start)))
    steps, before = [], slope
    for _ in range(("power_floor", "one break", "two breaks").index(truth)):
        change = max(rng.uniform(-0.35, 0.35), 0.05 - before)
        steps.append((rng.uniform(0, 7), rng.uniform(0.2, 1.5), change))
        before += change
    return lambda x: floor + np.exp(-slope * x - sum(c * f * np.logaddexp(0, (x - t) / f) for t, f, c in steps))


def curve_design(style: str, rng: np.random.Generator) -> np.ndarray:
    """Logs of the data of the rows fitted."""
    if style == "steps":
        return np.log(np.linspace(1, np.exp(rng.uniform(2.5, 4)), int(rng.integers(12, 40))))
    low, rows = (4.0, rng.integers(8, 16)) if style == "few" else (3.0, rng.integers(40, 71))
    return np.linspace(0, rng.uniform(low, 6), int(rows))


def _neighbours(count: int, together: float, rng: np.random.Generator) -> np.ndarray:
    """Errors of variance one of which each carries on the share `together` of the one before."""
    fresh = rng.normal(size=count)
    out = fresh.copy()
    for i in range(1, count):
        out[i] = together * out[i - 1] + np.sqrt(1 - together**2) * fresh[i]
    return out


def _case(
    truth: str, design: str, axes: tuple[str, ...], loss: Callable[..., np.ndarray], fitted: Any, beyond: Any,
    errors: Callable[[int], np.ndarray],
) -> Case:  # fmt: skip
    middle = dict(zip(("params", "data"), MIDDLE, strict=True))
    count, noise = len(fitted[0]), errors(len(fitted[0]) + len(beyond[0]))
    columns, ahead = (
        {role: np.exp(v + middle[role]) for role, v in zip(axes, side, strict=True)} for side in (fitted, beyond)
    )
    exact = loss(*beyond)
    return Case(truth, design, {**columns, "loss": loss(*fitted) * np.exp(noise[:count])}, ahead,
                exact * np.exp(noise[count:]), exact)  # fmt: skip


def judge(case: Case, score: Score, forms: list[str]) -> None:
    """Every form fitted to one case, and what it said of the points beyond."""
    axes = {role: role for role in case.beyond}
    points: list[dict[str, float]] = [
        dict(zip(axes, map(float, at), strict=True)) for at in zip(*case.beyond.values(), strict=True)
    ]
    for form in forms:
        started = time.process_time()
        try:
            law = fit(case.columns, form=form, loss="loss", bootstrap=100 if form == "auto" else 0, **axes)  # type: ignore[arg-type]
        except (FitError, ValueError):
            if form == "auto":
                print(f"  no law: {case.truth} {case.design}")
            continue
        said = np.log(law.losses(**case.beyond) / case.exact)
        score.errors.setdefault(form, []).append(float(np.sqrt((said**2).mean())))
        if form == "auto":
            score.seconds.append(time.process_time() - started)
            made = [law.predict(**at) for at in points]
            score.inside += [p.low <= y <= p.high for p, y in zip(made, case.measured, strict=True)]
            score.half += [float(np.log(p.high / p.low) / 2) for p in made]


def main() -> None:
    """Print a table per kind, and its means."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("kinds", nargs="*", default=["grids", "curves"], metavar="KIND")
    given.add_argument("--repeats", type=int, default=2)
    given.add_argument("--only", help="one truth")
    given.add_argument("--seed", type=int, default=0)
    asked = given.parse_args()
    for kind in asked.kinds:
        cases = [c for c in {"grids": grids, "curves": curves}[kind](asked.repeats, asked.seed)
                 if asked.only in (None, c.truth)]  # fmt: skip
        axes = tuple(cases[0].beyond)
        forms = [form.name for form in applicable(axes) if not form.floor_is_noise] + ["auto"]
        scores: dict[tuple[str, str], Score] = {}
        print(f"{kind}: rmsle of    best     own    auto   ratio  inside   half  seconds")
        for case in cases:
            judge(case, scores.setdefault((case.truth, case.design), Score()), forms)
        for (truth, design), score in scores.items():
            _show(f"{truth:<12}{design:<8}", truth, score)
        ratios = [np.mean(s.errors["auto"]) / _best(s) for s in scores.values()]
        inside = np.concatenate([s.inside for s in scores.values()])
        typical = np.exp(np.mean(np.log(ratios)))
        print(f"  auto over the best form: mean {np.mean(ratios):.2f}, geometric mean {typical:.2f}, worst "
              f"{max(ratios):.2f}; inside {inside.mean():.1%} of {len(inside)} rows")  # fmt: skip


def _best(score: Score) -> float:
    """Mean error of the single form that is best over the repeats."""
    return float(min(np.mean(errors) for form, errors in score.errors.items() if form != "auto"))


def _show(title: str, truth: str, score: Score) -> None:
    own = f"{np.mean(score.errors[truth]):8.4f}" if truth in score.errors else "       -"
    auto, best = np.mean(score.errors["auto"]), _best(score)
    print(f"  {title}{best:8.4f}{own}{auto:8.4f}{auto / best:8.2f}{np.mean(score.inside):8.1%}"
          f"{np.mean(score.half):7.3f}{np.mean(score.seconds):9.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
