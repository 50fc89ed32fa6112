"""Whether runs were limited by their number of steps: what their points say of the end of their curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chemscale.audit.groups import Row
from chemscale.records.schema import METRICS
from chemscale.records.store import Store

FEW_UPDATES = 200  # optimiser steps; a run with fewer is said to be short whatever its curve does

READ = ["run_id", "step", "examples", "valid_loss", "valid_loss_se", *(f"valid_{name}" for name in METRICS)]

Points = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Convergence:
    """How many of a group's runs were limited by their number of steps.

    falling: the validation loss fell by more than its standard error between the last two points before the cooldown;
    judged: runs that have two such points; short: runs of fewer than FEW_UPDATES updates; rose: runs whose validation
    loss turned up, so that the best checkpoint was measured.
    """

    runs: int
    judged: int
    falling: int
    short: int
    rose: int


def convergence(rows: Sequence[Row], points: Points) -> Convergence:
    """Judge every run of a group by its points (run id -> rows of POINTS, by step)."""
    verdicts = [still_falling(row, points.get(row["run_id"], ())) for row in rows]
    return Convergence(
        len(rows),
        sum(v is not None for v in verdicts),
        sum(v is True for v in verdicts),
        sum((row["updates"] or 0) < FEW_UPDATES for row in rows),
        sum(row["law_rule"] == "best" for row in rows),
    )


def still_falling(row: Row, points: Sequence[Row]) -> bool | None:
    """Whether the loss still fell by more than its error when the cooldown began; None with fewer than two points."""
    constant = (1 - (row["cooldown"] or 0.0)) * (row["updates"] or 0)
    before = [p for p in points if p["valid_loss"] is not None and p["step"] <= constant]
    if len(before) < 2:
        return None
    last, newest = before[-2:]
    return last["valid_loss"] - newest["valid_loss"] > (newest["valid_loss_se"] or 0.0)


def points_of(store: Store, run_ids: Iterable[str]) -> dict[str, list[Row]]:
    """Run id -> what these runs measured on validation, by step: rows of POINTS, of their columns `READ`."""
    found: dict[str, list[Row]] = {}
    for row in store.points(run_ids).select(READ).to_pylist():
        found.setdefault(row["run_id"], []).append(row)
    return {run_id: sorted(rows, key=lambda row: row["step"]) for run_id, rows in found.items()}
