"""How the runs were trained: whether they converged, how they were tuned, and which of them no law sees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from chemscale.audit.convergence import FEW_UPDATES, convergence, still_falling
from chemscale.audit.groups import Row
from chemscale.audit.spaces import at_edges
from chemscale.audit.subject import LOSSLESS, Subject
from chemscale.audit.values import CANNOT_TELL, CONCERN, FINE, Finding, joined, plural
from chemscale.laws.tables.columns import number
from chemscale.records.schema import FINISHED

TUNED = (  # hyperparameters, by the names that tables give them
    "lr", "learning_rate", "max_lr", "peak_lr", "batch", "batch_size", "global_bs", "weight_decay", "wd", "warmup",
    "warmup_steps", "cooldown",
)  # fmt: skip
TRIALS = 4  # trials of a cell from which its best says something of the range
FEW_FALLING = 0.1  # share of runs limited by steps that a law bears

CONVERGED = "Were the runs trained to their end?"
EDGE = "Did a best rate lie at the edge of what was searched?"
EVEN = "Was every cell tuned alike?"
LEFT = "Which runs does no law see, and do they leave holes?"


def converged(subject: Subject) -> Finding:
    """Whether losses still fell when the cooldown began, and where."""
    if subject.group is None:
        return _converged_by_updates(subject)
    found = convergence(subject.rows, subject.points)
    numbers: dict[str, Any] = dict(vars(found))
    if not found.judged:
        told = f"none of {found.runs} runs has two points before its cooldown"
        return Finding("convergence", CONVERGED, CANNOT_TELL, told, "more validation points per run", numbers)
    falling = [row for row in subject.rows if still_falling(row, subject.points.get(row["run_id"], ()))]
    where = []
    for role, name in subject.places.items():
        top = max(row[name] for row in subject.rows)
        count = sum(row[name] == top for row in falling)
        numbers[f"falling_at_most_{role}"] = count
        where.append(f"{count} at the most {subject.nouns[role]}")
    told = f"{found.falling} of {found.judged} runs still fell by more than their error when the cooldown began"
    told += f" ({' and '.join(where)})" if falling else ""
    told += f"; {found.short} had fewer than {FEW_UPDATES} updates" if found.short else ""
    told += f"; {found.rose} are measured at their best point, their loss having turned up" if found.rose else ""
    if found.falling > FEW_FALLING * found.judged or found.short:
        return Finding(
            "convergence", CONVERGED, CONCERN, told, "the corners of the grid again with twice the updates", numbers
        )
    return Finding("convergence", CONVERGED, FINE, told, "", numbers)


def _converged_by_updates(subject: Subject) -> Finding:
    """Of a table without curves: what its number of updates says."""
    counted = {n: [number(v) for v in subject.all_values(n)] for n in ("updates", "steps", "num_steps")}
    name = next((n for n, values in counted.items() if None not in values), None)
    settle = "learning curves: a store keeps them, and is audited with them"
    if name is None:
        return Finding(
            "convergence", CONVERGED, CANNOT_TELL, "the table has no curves and no column of updates", settle
        )
    short = sum(v is not None and v < FEW_UPDATES for v in counted[name])
    told = f"{short} of {len(subject.whole)} runs had fewer than {FEW_UPDATES} {name}; the table has no curves"
    return Finding("convergence", CONVERGED, CONCERN if short else CANNOT_TELL, told, settle, {"short": short})


def cells_of(subject: Subject) -> list[list[Row]]:
    """Finished trials by cell: the same axes, depth, seed and subset."""
    trials = [*subject.whole, *(row for row, _ in subject.left_out if row.get("status") == FINISHED)]
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in trials:
        if all(row.get(name) is not None for name in subject.places.values()):
            place = _cell(row, subject)
            cells.setdefault((*place, row.get("depth"), row.get("seed"), row.get("subset_key")), []).append(row)
    return list(cells.values())


def trials_of(cell: Sequence[Row]) -> int:
    """How many settings of hyperparameters were tried in a cell; repeats of one are no trials."""
    return len({tuple(row.get(name) for name in TUNED) for row in cell})


def varied(cell: Sequence[Row]) -> dict[str, list[float]]:
    """Hyperparameter -> its different values among the trials of a cell, ascending, where it has several."""
    found = {}
    for name in TUNED:
        values = sorted({float(row[name]) for row in cell if isinstance(row.get(name), int | float)})
        if len(values) > 1:
            found[name] = values
    return found


def edge(subject: Subject) -> Finding:
    """Whether the best trial of a cell lies at the edge of its search's space, or else of the values tried."""
    found = [(best, ends) for cell in cells_of(subject) for best, ends in _best_of(cell, subject)]
    at_edge = [(name, value, best) for best, ends in found for name, value in ends]
    numbers = {"cells": len(found), "at_edge": [(name, value) for name, value, _ in at_edge]}
    if not found:
        told = f"no cell tried {TRIALS} values of a hyperparameter: nothing was searched, or the table does not say"
        return Finding("edge", EDGE, CANNOT_TELL, told, "a search at the corners of the grid", numbers)
    if at_edge:
        name, value, row = at_edge[0]
        where = " ".join(f"{c}={row[c]:.4g}" for c in subject.places.values())
        told = f"{plural(len(at_edge), 'time')} in {plural(len(found), 'cell')}, e.g. {name}={value:.3g} at {where}"
        return Finding("edge", EDGE, CONCERN, told, f"a wider range of {name}", numbers)
    return Finding("edge", EDGE, FINE, f"nowhere; {plural(len(found), 'cell')} searched", "", numbers)


def _best_of(cell: Sequence[Row], subject: Subject) -> Iterable[tuple[Row, list[tuple[str, float]]]]:
    """The best trial of a cell that was searched, and its hyperparameters at an edge with their values."""
    tried = {name: values for name, values in varied(cell).items() if len(values) >= TRIALS}
    best = min(cell, key=lambda row: _score(row, subject.loss))
    space = subject.spaces.get(str(best.get("run_id")))
    said = at_edges(best, space) if space is not None and trials_of(cell) >= TRIALS else None
    if said is not None:
        yield best, said
    elif tried:
        at = {name: number(best.get(name)) for name in tried}
        yield best, [(n, v) for n, v in at.items() if v is not None and v in (tried[n][0], tried[n][-1])]


def _score(row: Row, loss: str) -> float:
    """By what the best trial of a cell is chosen; a trial that has neither loss is the last."""
    found = number(row.get("valid_loss"))
    found = number(row.get(loss)) if found is None else found
    return math.inf if found is None else found


def tuning(subject: Subject) -> Finding:
    """Whether the cells of these runs had equal numbers of trials."""
    counts = Counter(map(trials_of, cells_of(subject)))
    numbers = {"trials": {str(n): c for n, c in sorted(counts.items())}}
    if set(counts) <= {1}:
        told = f"every cell has one trial; {_untuned(subject)}"
        settle = "a search of equal size in a few cells, the corners first"
        return Finding("tuning", EVEN, CANNOT_TELL, told, settle, numbers)
    shown = joined([f"{plural(n, 'trial')} in {plural(c, 'cell')}" for n, c in sorted(counts.items())])
    if len(counts) > 1:
        return Finding("tuning", EVEN, CONCERN, shown, "the same number of trials in every cell", numbers)
    return Finding("tuning", EVEN, FINE, shown, "", numbers)


def _untuned(subject: Subject) -> str:
    """Where the hyperparameters of one trial come from, as far as the rows show."""
    known = [name for name in TUNED if subject.has(name)]
    fixed = [name for name in known if len(set(subject.all_values(name))) == 1]
    moved = [name for name in known if name not in fixed]
    told = [f"{joined(fixed)} {'are' if len(fixed) > 1 else 'is'} the same in all"] if fixed else []
    told += [f"{joined(moved)} {'differ' if len(moved) > 1 else 'differs'} between cells"] if moved else []
    return ", ".join(told) or "the table has no hyperparameter"


def left_out(subject: Subject) -> Finding:
    """Which rows no law is about, by reason, and cells that they leave without any run."""
    counts = Counter(why for _, why in subject.left_out)
    numbers: dict[str, Any] = {"counts": dict(counts)}
    if not counts:
        known = subject.group is not None or "status" in (subject.rows[0] if subject.rows else {})
        told = (
            "every run finished"
            if known
            else "the table has no column `status`, so runs that failed may be missing unseen"
        )
        return Finding(
            "left out", LEFT, FINE if known else CANNOT_TELL, told, "" if known else "a column `status`", numbers
        )
    run = {_cell(row, subject) for row in subject.whole}
    holes = {
        _cell(row, subject) for row, why in subject.left_out if row.get("status") != FINISHED or why == LOSSLESS
    } - run
    shown = ", ".join(f"{n} {why}" for why, n in sorted(counts.items()))
    numbers["holes"] = [dict(zip(subject.places.values(), cell, strict=True)) for cell in holes if None not in cell]
    if holes:
        has = "have" if len(holes) > 1 else "has"
        told = f"{shown}; {plural(len(holes), 'cell')} {has} no other run ({_largest(holes, subject)})"
        return Finding("left out", LEFT, CONCERN, told, "those cells again, or a law that takes censored runs", numbers)
    return Finding("left out", LEFT, FINE, f"{shown}; every cell of theirs has a finished run", "", numbers)


def _cell(row: Row, subject: Subject) -> tuple[Any, ...]:
    """The place of a row; a run that ended early knows its width and its examples, if not its parameters."""
    return tuple(row.get(name) for name in subject.places.values())


def _largest(holes: Iterable[tuple[Any, ...]], subject: Subject) -> str:
    known = [cell for cell in holes if all(isinstance(value, int | float) for value in cell)]
    if not known:
        return "of unknown place"
    return "the largest at " + " ".join(
        f"{n}={v:.4g}" for n, v in zip(subject.places.values(), max(known), strict=True)
    )


CHECKS = (converged, edge, tuning, left_out)
