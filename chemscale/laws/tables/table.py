"""Any table in, clean columns out: what is checked before a law may be fitted.

A table is a pyarrow Table, a pandas or polars DataFrame, a mapping of columns, or a sequence of mappings. Nothing is
imported for it: tables are recognised by what they can do. Missing values are None or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.tables.where import matches

Columns = dict[str, list[Any]]

LEAST, MOST = 1e-60, 1e60  # of any cell: a power of more would leave the range of floating-point numbers
SEPARATING = ("family", "architecture", "law_metric", "precision", "data_content")
UNITS = {
    "params": "parameters", "params_all": "parameters", "molecules": "molecules", "tokens": "tokens",
    "structures": "structures", "atoms": "atoms", "flops": "FLOPs", "nats_per_token": "nats/token",
    "nats_per_molecule": "nats/molecule", "force_mae": "eV/angstrom", "force_rmse": "eV/angstrom",
    "energy_mae": "eV/atom", "energy_rmse": "eV/atom",
}  # fmt: skip
DATA_OF = {
    "nats_per_token": "molecules", "nats_per_molecule": "molecules", "force_mae": "structures",
    "force_rmse": "structures", "energy_mae": "structures", "energy_rmse": "structures",
}  # fmt: skip  # the unique examples of the loss's family, as reports count data


@dataclass(frozen=True)
class Rows:
    """Runs ready to fit; all arrays (n,), positive and finite.

    `columns` maps params, data, flops, loss, weights to the column names and `units` to their units; `clusters`
    numbers the groups of rows whose errors move together (the column `cluster`, the rows of a run_id, or each its own);
    `noise_floor` is the part of the loss, in its unit, that the test labels' own noise makes (0: not measured);
    `censored` marks losses that are upper bounds of final ones, `imputed` is the standard deviation of the log loss
    where it is a forecast and 0 elsewhere; each None where there are none.
    """

    columns: dict[str, str]
    units: dict[str, str]
    axes: dict[str, Array]
    loss: Array
    weights: Array
    clusters: np.ndarray
    flops: Array | None = None
    censored: np.ndarray | None = None
    imputed: Array | None = None
    warnings: tuple[str, ...] = field(default=())
    noise_floor: float = 0.0

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, which: np.ndarray) -> Rows:
        """The rows of a boolean or integer index; clusters are numbered anew, since their count is read off them."""
        axes = {role: values[which] for role, values in self.axes.items()}
        clusters = np.unique(self.clusters[which], return_inverse=True)[1].ravel()
        parts = {"loss": self.loss[which], "weights": self.weights[which], "clusters": clusters}
        rare = {name: None if values is None else values[which] for name, values in self._rare.items()}
        return replace(self, axes=axes, **parts, **rare)

    @property
    def measured(self) -> np.ndarray:
        """Which runs have a final loss and not only a bound of it, (n,) of bool."""
        return np.ones(len(self), bool) if self.censored is None else ~self.censored

    @property
    def _rare(self) -> dict[str, np.ndarray | None]:
        """The columns that not every table has."""
        return {"flops": self.flops, "censored": self.censored, "imputed": self.imputed}

    def stacked(self, roles: Sequence[str]) -> Array:
        """Axes in the given order, (n, roles)."""
        return np.stack([self.axes[role] for role in roles], axis=1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            "columns": self.columns, "units": self.units,
            "axes": {role: values.tolist() for role, values in self.axes.items()},
            "loss": self.loss.tolist(), "weights": self.weights.tolist(), "clusters": self.clusters.tolist(),
            **{name: None if values is None else values.tolist() for name, values in self._rare.items()},
            "warnings": list(self.warnings), "noise_floor": self.noise_floor,
        }  # fmt: skip

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Rows:
        """The inverse of `to_json`."""
        kinds = {"flops": float, "censored": bool, "imputed": float}
        rare = {name: np.array(found[name], kind) for name, kind in kinds.items() if found.get(name) is not None}
        return cls(
            dict(found["columns"]), dict(found["units"]),
            {role: np.array(values, float) for role, values in found["axes"].items()},
            np.array(found["loss"], float), np.array(found["weights"], float), np.array(found["clusters"], int),
            warnings=tuple(found["warnings"]), noise_floor=found["noise_floor"], **rare,
        )  # fmt: skip


def read(table: Any) -> Columns:
    """Columns of any table as lists of Python values."""
    if hasattr(table, "column_names") and hasattr(table, "column"):  # pyarrow
        refuse_twins(table.column_names, "the table")
        columns = {str(name): table.column(name).to_pylist() for name in table.column_names}
    elif isinstance(table, Mapping):
        columns = {str(name): _listed(values) for name, values in table.items()}
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):  # pandas, polars
        refuse_twins(table.columns, "the table")
        columns = {str(name): _listed(table[name]) for name in table.columns}
    elif isinstance(table, Iterable) and not isinstance(table, (str, bytes)):
        columns = _from_records(list(table))
    else:
        raise ValueError(f"a table of runs is needed, not {type(table).__name__}; pass columns by name.")
    lengths = {name: len(values) for name, values in columns.items()}
    if not columns or not min(lengths.values()):
        raise ValueError("the table has no rows; there is nothing to fit.")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the table's columns differ in length: {lengths}.")
    return columns


def refuse_twins(names: Iterable[Any], source: str) -> None:
    """Raise ValueError if two columns share a name."""
    seen: set[str] = set()
    for name in map(str, names):
        if name in seen:
            raise ValueError(f"column {name!r} occurs twice in {source}; rename or remove one of the two.")
        seen.add(name)


def _from_records(records: list[Any]) -> Columns:
    if not all(isinstance(record, Mapping) for record in records):
        raise ValueError("a sequence given as a table must hold one mapping per run.")
    names = dict.fromkeys(str(name) for record in records for name in record)
    return {name: [_plain(record.get(name)) for record in records] for name in names}


def _listed(values: Any) -> list[Any]:
    return [_plain(v) for v in (values.tolist() if hasattr(values, "tolist") else list(values))]


def _plain(value: Any) -> Any:
    """Python's own number, text or None; NaN and pandas' missing values become None."""
    value = value.item() if isinstance(value, np.generic) else value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def select(table: Any, where: str | None = None, censored: str | None = None) -> tuple[Columns, tuple[str, ...]]:
    """The finished rows of plain runs that satisfy `where`, and what was left out as sentences.

    Rows that the boolean column `censored` marks are kept though they did not finish.
    """
    columns = read(table)
    if where:
        columns = keep(columns, matches(columns, where))
        if not len(next(iter(columns.values()))):
            raise ValueError(f"where={where!r} leaves no rows.")
    columns, heirs = _without_lineage(columns)
    columns, unfinished = _finished(columns, censored)
    return columns, heirs + unfinished


def _without_lineage(columns: Columns) -> tuple[Columns, tuple[str, ...]]:
    """A member of a population is no run of its spec: its weights, and its rates on the way, come from others too."""
    alone = np.array([value is None or value == "" for value in columns.get("lineage", [])], dtype=bool)
    if alone.all():
        return columns, ()
    if not alone.any():
        raise ValueError(
            f"the table has only members of populations ({len(alone)} rows with a lineage); a law needs plain runs."
        )
    note = f"left out {int((~alone).sum())} members of populations, which are no plain runs"
    return keep(columns, alone), (note,)


def _finished(columns: Columns, censored: str | None) -> tuple[Columns, tuple[str, ...]]:
    if "status" not in columns:
        return columns, ()
    bounds = flags(columns, censored) if censored else np.zeros(len(columns["status"]), bool)
    status = ["finished" if bound else str(value) for value, bound in zip(columns["status"], bounds, strict=True)]
    left_out = {s: status.count(s) for s in sorted(set(status) - {"finished"})}
    if not left_out:
        return columns, ()
    counts = ", ".join(f"{count} {name}" for name, count in left_out.items())
    if "finished" not in status:
        raise ValueError(f"the table has no finished run ({counts}); a law needs results of finished runs.")
    note = f"left out {sum(left_out.values())} runs that are not finished ({counts}): their losses are not results"
    return keep(columns, np.array([s == "finished" for s in status])), (note,)


def keep(columns: Columns, mask: np.ndarray) -> Columns:
    """The rows where `mask` (rows,) is true."""
    index = np.flatnonzero(mask)
    return {name: [values[i] for i in index] for name, values in columns.items()}


def split(columns: Columns, by: str) -> dict[Any, Columns]:
    """The rows of each value of the column `by`, in order of appearance."""
    values = column(columns, by, "by")
    listed = next((v for v in values if isinstance(v, (list, dict))), None)
    if listed is not None:
        raise ValueError(f"by={by!r} holds {listed!r}, which names no group; give a column of texts or numbers.")
    marked = np.array([str(v) for v in values])
    return {v: keep(columns, marked == str(v)) for v in dict.fromkeys(values)}


def column(columns: Columns, name: str, field_name: str) -> list[Any]:
    """One column by name, or a ValueError that lists what there is."""
    if name not in columns:
        raise ValueError(f"{field_name}={name!r} is not a column of the table; it has {', '.join(columns)}.")
    return columns[name]


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


def positive(columns: Columns, name: str, field_name: str) -> Array:
    """One column as positive finite floats, (n,); ValueError names the column, the row and the value."""
    out = np.empty(len(column(columns, name, field_name)))
    for row, value in enumerate(columns[name]):
        cell = number(value)
        if cell is None or not np.isfinite(cell) or cell <= 0:
            kind = "missing (null or NaN)" if value is None or value == "" else repr(value)
            raise ValueError(
                f"{field_name} column {name!r} is {kind} in row {row + 1} of {len(out)}; a law needs positive "
                f"numbers, so {_remedy(value, cell)}."
            )
        if not LEAST <= cell <= MOST:
            raise ValueError(
                f"{field_name} column {name!r} is {value!r} in row {row + 1} of {len(out)}, outside {LEAST:g} to "
                f"{MOST:g}; give it in another unit."
            )
        out[row] = cell
    return out


def _remedy(value: Any, cell: float | None) -> str:
    """What to do about a cell that is no positive number."""
    if isinstance(value, str) and value.strip() and cell is None and value.strip()[0].isdigit():
        return "write them plainly, such as 1000000 or 1e6, without separators or units"
    return "leave such rows out with where"


def _refuse_one_run(columns: Columns, axes: Mapping[str, Array]) -> None:
    """Raise ValueError if rows of one run_id differ in two axes, as those of a curve do not."""
    runs = {str(run) for run in columns.get("run_id", [None])}
    if len(runs) == 1 and runs != {"None"} and sum(len(np.unique(values)) > 1 for values in axes.values()) > 1:
        raise ValueError(
            f"every row has the run_id {runs.pop()!r}, so no row is another run and doubt has no measure; give each "
            f"run its own, or name one axis for a single curve."
        )


def refuse_shared(named: Mapping[str, str]) -> None:
    """Raise ValueError if one column is named for two things."""
    for role, name in named.items():
        if role == "seen":
            continue  # where nothing was repeated what was seen is the data
        other = next(first for first, taken in named.items() if taken == name)
        if other != role:
            raise ValueError(f"{other} and {role} both name the column {name!r}; give each its own.")


def flags(columns: Columns, name: str) -> np.ndarray:
    """One column of true and false, (n,) of bool; missing is false."""
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "none": False, "": False}
    found = [words.get(str(value).lower()) for value in column(columns, name, "censored")]
    if None in found:
        row = found.index(None)
        raise ValueError(
            f"censored column {name!r} is {columns[name][row]!r} in row {row + 1}; it must hold true or false."
        )
    return np.array(found, bool)


def number(value: Any) -> float | None:
    """A cell as a number; text is read, since one bad cell makes text of a whole CSV column."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


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
        raise ValueError(f"epochs={epochs!r} needs either data or seen beside it: seen = data x epochs.")
    times = positive(columns, epochs, "epochs")
    role, known = ("seen", "data") if "data" in given else ("data", "seen")
    sign, values = (" x ", times) if role == "seen" else (" / ", 1 / times)
    name = given[known] + sign + epochs
    made = positive(columns, given[known], known) * values
    return {**columns, name: made.tolist()}, {**given, role: name}


def clusters_of(columns: Columns, cluster: str | None, count: int) -> np.ndarray:
    """Number of the group of each row, (count,): `cluster`, else the column of that name, else rows of one run_id.

    The rows of a table that holds one run alone are a curve, each of its own group.
    """
    shared = column(columns, cluster, "cluster") if cluster else columns.get("cluster", [None] * count)
    runs = columns.get("run_id", [None] * count)
    groups = [
        ("cluster", str(group)) if group is not None else ("run", str(run)) if run is not None else ("row", str(i))
        for i, (group, run) in enumerate(zip(shared, runs, strict=True))
    ]
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    if len(codes) > 1:
        return np.array([codes[group] for group in groups])
    if cluster:
        raise ValueError(f"cluster={cluster!r} has the single value {shared[0]!r}; doubt needs two groups or more.")
    return np.arange(count)


def rows(
    columns: Columns,
    roles: Mapping[str, str],
    loss: str,
    weights: str | None = None,
    notes: tuple[str, ...] = (),
    cluster: str | None = None,
    noise_floor: float = 0.0,
) -> Rows:
    """Checked arrays of one law's runs; `roles` maps params, data, seen, flops to column names."""
    refuse_mixture(columns)
    axes = {role: positive(columns, name, role) for role, name in roles.items()}
    _refuse_one_run(columns, axes)
    losses = positive(columns, loss, "loss")
    weight = positive(columns, weights, "weights") if weights else np.ones(len(losses))
    flops_name = "flops" if "flops" in columns else None
    flops = axes.get("flops")
    if flops is None and flops_name and all(isinstance(v, (int, float)) and v > 0 for v in columns[flops_name]):
        flops = positive(columns, flops_name, "flops")
    named = {**roles, "loss": loss, **({"weights": weights} if weights else {})}
    units = {role: UNITS.get(name, name) for role, name in named.items()}
    metric = metric_of(columns, loss)
    units["loss"] = UNITS.get(metric, metric)
    return Rows(
        named,
        units,
        axes,
        losses,
        weight,
        clusters_of(columns, cluster, len(losses)),
        flops,
        warnings=notes,
        noise_floor=noise_floor,
    )
