"""What the columns of a table of runs mean: units, which count of data a loss goes with, what must not be mixed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from chemscale.laws.tables.columns import Columns, number, positive

SEPARATING = ("family", "architecture", "law_metric", "precision", "data_content")
COUNTED = "flops_rule"  # a model that came to work another way has other FLOPs for the same spec; null is the first way
UNITS = {
    "params": "parameters", "params_all": "parameters", "capacity": "layers x channels",
    "molecules": "molecules", "tokens": "tokens",
    "structures": "structures", "atoms": "atoms", "flops": "FLOPs", "nats_per_token": "nats/token",
    "nats_per_molecule": "nats/molecule", "force_mae": "eV/angstrom", "force_rmse": "eV/angstrom",
    "energy_mae": "eV/atom", "energy_rmse": "eV/atom",
}  # fmt: skip
ROUNDED = 0.02  # natural logs; counts that agree to so much are one, epochs being written with few digits
DATA_OF = {
    "nats_per_token": "molecules", "nats_per_molecule": "molecules", "force_mae": "structures",
    "force_rmse": "structures", "energy_mae": "structures", "energy_rmse": "structures",
}  # fmt: skip  # the unique examples of the loss's family, as reports count data


def with_capacity(columns: Columns) -> Columns:
    """Columns with `capacity`, depth x width, where a table has both (Frey et al. 2023 count potentials by it)."""
    if "capacity" in columns or not {"depth", "width"} <= columns.keys():
        return columns
    pairs = zip(map(number, columns["depth"]), map(number, columns["width"]), strict=True)
    products = [None if depth is None or width is None else depth * width for depth, width in pairs]
    return {**columns, "capacity": products}


def metric_of(columns: Columns, loss: str) -> str:
    """The metric that a loss column holds: its own name, and for `law_loss` the single value of `law_metric`."""
    held = {str(v) for v in columns.get("law_metric", []) if v is not None} if loss == "law_loss" else set()
    return held.pop() if len(held) == 1 else loss


def data_of(columns: Columns, loss: str) -> str | None:
    """The column that counts the data of a loss in a table of runs; None where there is none."""
    usual = DATA_OF.get(metric_of(columns, loss))
    candidates = (usual, "tokens") if usual == "molecules" else (usual,)
    return next((name for name in candidates if name in columns), None)


def with_epochs(columns: Columns, given: Mapping[str, str], epochs: str) -> tuple[Columns, dict[str, str]]:
    """Columns and axes with the third of data, seen and epochs made of the other two: seen = data x epochs."""
    if ("data" in given) == ("seen" in given):
        _refuse_three(columns, given, epochs)
    times = positive(columns, epochs, "epochs")
    role, known = ("seen", "data") if "data" in given else ("data", "seen")
    sign, values = (" x ", times) if role == "seen" else (" / ", 1 / times)
    name = given[known] + sign + epochs
    made = positive(columns, given[known], known) * values
    return {**columns, name: made.tolist()}, {**given, role: name}


def _refuse_three(columns: Columns, given: Mapping[str, str], epochs: str) -> None:
    """Raise ValueError for epochs with both or neither of data and seen, with the first row in which they disagree."""
    told = f"epochs={epochs!r} needs either data or seen beside it: seen = data x epochs"
    if "data" not in given:
        raise ValueError(f"{told}; name one of them.")
    data, seen, times = (
        positive(columns, name, role) for role, name in (*((r, given[r]) for r in ("data", "seen")), ("epochs", epochs))
    )
    apart = np.flatnonzero(np.abs(np.log(data * times / seen)) > ROUNDED)
    if not len(apart):
        raise ValueError(f"{told}; leave out one of {given['data']!r} and {given['seen']!r}, which say the same.")
    row = apart[0]
    raise ValueError(
        f"{told}, but in {len(apart)} of {len(data)} rows it is not (row {row + 1}: {data[row]:.3g} x {times[row]:.3g} "
        f"against {seen[row]:.3g}); one of {given['data']!r} and {given['seen']!r} counts something else, leave it out."
    )


def within_first_pass(columns: Columns, roles: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence where runs saw less than the unique data they are said to have had."""
    if "data" not in roles or "seen" not in roles:
        return ()
    data, seen = (positive(columns, roles[role], role) for role in ("data", "seen"))
    short = int((np.log(data / seen) > ROUNDED).sum())
    if not short:
        return ()
    return (
        f"{short} of {len(data)} runs have more {roles['data']} than {roles['seen']} and count as stopped within their "
        f"first pass; if they were not, {roles['data']} does not count their unique data, and seen with epochs does",
    )


def refuse_mixture(columns: Columns) -> None:
    """Raise ValueError if rows of different kinds would share one law."""
    for name in SEPARATING:
        values = sorted({str(v) for v in columns.get(name, []) if v is not None})
        if len(values) > 1:
            shown = ", ".join(values[:6]) + (", ..." if len(values) > 6 else "")
            raise ValueError(
                f"the table mixes {len(values)} values of {name} ({shown}), which do not share a law; separate "
                f"them with by={name!r} or where={f'{name} == {values[0]!r}'!r}."
            )


def refuse_two_counts(columns: Columns, axes: Mapping[str, str]) -> None:
    """Raise ValueError if an axis of FLOPs holds counts of two ways of working of one model."""
    rules = sorted(rules_of(columns.get(COUNTED, [])))
    if "flops" in axes.values() and len(rules) > 1:
        raise ValueError(
            f"the FLOPs of this table were counted by {len(rules)} rules ({COUNTED} {', '.join(map(str, rules))}; null "
            f"is 1), between which one model does other work; separate them with by={COUNTED!r} or "
            f"where={f'{COUNTED} == {rules[-1]}'!r}."
        )


def rules_of(values: Iterable[object]) -> set[int]:
    """The different rules by which FLOPs were counted."""
    found = (number(value) for value in values)
    return {1 if rule is None or not math.isfinite(rule) else int(rule) for rule in found}


def refuse_shared(named: Mapping[str, str]) -> None:
    """Raise ValueError if one column is named for two things."""
    for role, name in named.items():
        if role == "seen":
            continue  # where nothing was repeated what was seen is the data
        other = next(first for first, taken in named.items() if taken == name)
        if other != role:
            raise ValueError(f"{other} and {role} both name the column {name!r}; give each its own.")
