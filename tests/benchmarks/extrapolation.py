"""How far off laws are beyond the runs they were fitted to, on public tables: every form alone, form="auto" on each
group by itself (auto), and on all groups of a table in one call, so that they tell one another (told).

    python -m tests.benchmarks.extrapolation [rnsl gadre routing datablations takano] [--every 1] [--forms auto]

CHEMSCALE_SHARED names the folder of the tables. `rmsle`: root mean square of the log error on the rows beyond, per
curve or group, averaged over them; `rel`: mean absolute relative error over rows; `inside`: share of rows inside the
95 % interval; `half`: half its width in logs; `failed`: groups without a law. No row beyond is seen by any fit:
- rnsl: few-shot image curves of Alabdulmohsin et al. 2022, their own split; published over all 72 curves: M4 .0415,
  BNSL .0406, a trained network .0280
- gadre: runs up to 411M predict 1.4B and 6.9B (published: 2.6 % with separate exponents, 1.0 % tied)
- routing: validation curves of Clark et al. 2022 over steps, the first half predicts the second
- datablations, takano: the largest fifth of the runs by parameters x data
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chemscale.laws import FitError, Law, fit

SHARED = Path(os.environ.get("CHEMSCALE_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "scaling"
ONE_AXIS = ("power", "power_floor", "hill", "bnsl", "quadrature", "auto", "told")
TWO_AXES = ("power", "kaplan", "chinchilla", "tied", "gamma", "varying", "auto", "told")
Row = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """Rows to fit and rows beyond them, with the columns of the axes and the loss."""

    name: str
    fitted: list[Row]
    beyond: list[Row]
    axes: dict[str, str]
    loss: str


def rnsl() -> Iterator[Split]:
    """A curve per task and model."""
    rows = _table("rnsl_vision_dev.csv")
    for name, curve in _by(rows, "Task", "Model").items():
        parts = [[row for row in curve if row["Training"] == side] for side in (1, 0)]
        yield Split(name, parts[0], parts[1], {"data": "Seen Examples"}, "Loss")


def gadre() -> Iterator[Split]:
    """A grid per training set."""
    for name, runs in _by(_table("gadre_overtraining.csv"), "dataset").items():
        small, large = ([r for r in runs if (r["params"] < 4.2e8) == side] for side in (True, False))
        if large:
            yield Split(name, small, large, {"params": "params", "data": "tokens"}, "loss__c4_val")


def routing() -> Iterator[Split]:
    """A curve per run."""
    for name, curve in _by(_table("routing_curves_dev.csv"), "hyper_id", "seed").items():
        rows = [row for row in curve if row["step"] and row["loss_validation"]]
        half = max((row["step"] for row in rows), default=0) / 2
        parts = [[row for row in rows if (row["step"] <= half) == side] for side in (True, False)]
        if len(parts[0]) >= 12 and len(parts[1]) >= 3:
            yield Split(name, parts[0], parts[1], {"data": "step"}, "loss_validation")


def datablations() -> Iterator[Split]:
    """Runs of a single epoch."""
    rows = [
        r for r in _table("datablations_contour_losses.csv") if r["epochs"] and r["epochs"] <= 1 and r["openLM_loss"]
    ]
    yield _largest("datablations", rows, {"params": "num_params", "data": "token_num"}, "openLM_loss")


def takano() -> Iterator[Split]:
    """All runs."""
    yield _largest("takano", _table("takano_toy_llm.csv"), {"params": "N", "data": "D"}, "loss")


TABLES = {
    "rnsl": (rnsl, ONE_AXIS), "gadre": (gadre, TWO_AXES), "routing": (routing, ONE_AXIS),
    "datablations": (datablations, TWO_AXES), "takano": (takano, TWO_AXES),
}  # fmt: skip


@dataclass
class Score:
    """What one form did on the splits of a table."""

    rmsle: list[float]
    relative: list[float]
    inside: list[bool]
    half: list[float]
    seconds: float = 0.0
    failed: int = 0


def score(splits: list[Split], form: str) -> Score:
    """Every split fitted and predicted."""
    found = Score([], [], [], [])
    started = time.process_time()
    together = _told(splits) if form == "told" else None
    for number, split in enumerate(splits):
        try:
            law = together[number] if together else _alone(split, form)
        except (FitError, ValueError):
            found.failed += 1
            continue
        measured = np.array([row[split.loss] for row in split.beyond])
        said = [law.predict(**{role: row[name] for role, name in split.axes.items()}) for row in split.beyond]
        value, low, high = np.array([(p.value, p.low, p.high) for p in said]).T
        found.rmsle.append(float(np.sqrt((np.log(value / measured) ** 2).mean())))
        found.relative += np.abs(value / measured - 1).tolist()
        found.inside += ((low <= measured) & (measured <= high)).tolist()
        found.half += (np.log(high / low) / 2).tolist()
    found.seconds = time.process_time() - started
    return found


def _alone(split: Split, form: str) -> Law:
    return fit(split.fitted, form=form, loss=split.loss, bootstrap=100, **split.axes)  # type: ignore[arg-type]


def _told(splits: list[Split]) -> dict[int, Law]:
    """One call for all groups."""
    names = [*splits[0].axes.values(), splits[0].loss]
    rows = [{"group": i, **{name: row[name] for name in names}} for i, s in enumerate(splits) for row in s.fitted]
    return fit(rows, form="auto", by="group", loss=splits[0].loss, bootstrap=100, **splits[0].axes)  # type: ignore[arg-type]


def main() -> None:
    """Print one table per data set."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("tables", nargs="*", default=list(TABLES), metavar="TABLE")
    given.add_argument("--every", type=int, default=1, help="every so-manieth curve only")
    given.add_argument("--forms", help="these only, with commas")
    asked = given.parse_args()
    for name in asked.tables:
        make, forms = TABLES[name]
        splits = list(make())[:: asked.every]
        print(f"{name}: {len(splits)} groups, {sum(len(s.beyond) for s in splits)} rows beyond")
        for form in asked.forms.split(",") if asked.forms else forms:
            got = score(splits, form)
            if not got.rmsle:
                print(f"  {form:<12} no law")
                continue
            print(
                f"  {form:<12} rmsle {np.mean(got.rmsle):.4f}  rel {np.mean(got.relative):7.2%}  inside "
                f"{np.mean(got.inside):6.1%}  half {np.mean(got.half):.3f}  failed {got.failed}  "
                f"{got.seconds / len(splits):.2f} s a fit",
                flush=True,
            )


def _table(name: str) -> list[Row]:
    with open(SHARED / name) as lines:
        return [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(lines)]


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text or None


def _by(rows: list[Row], *names: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(" ".join(str(row[name]) for name in names), []).append(row)
    return groups


def _largest(name: str, rows: list[Row], axes: dict[str, str], loss: str) -> Split:
    size = np.array([np.prod([row[column] for column in axes.values()]) for row in rows])
    edge = np.quantile(size, 0.8)
    parts = [[row for row, large in zip(rows, size > edge, strict=True) if large == side] for side in (False, True)]
    return Split(name, parts[0], parts[1], axes, loss)


if __name__ == "__main__":
    main()
