"""The runs of one law, checked: what the columns of a table become before a law is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.tables.columns import Columns, column, positive
from chemscale.laws.tables.meaning import UNITS, metric_of, refuse_mixture, refuse_two_counts


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
    refuse_two_counts(columns, roles)
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


def _refuse_one_run(columns: Columns, axes: Mapping[str, Array]) -> None:
    """Raise ValueError if rows of one run_id differ in two axes, as those of a curve do not."""
    runs = {str(run) for run in columns.get("run_id", [None])}
    if len(runs) == 1 and runs != {"None"} and sum(len(np.unique(values)) > 1 for values in axes.values()) > 1:
        raise ValueError(
            f"every row has the run_id {runs.pop()!r}, so no row is another run and doubt has no measure; give each "
            f"run its own, or name one axis for a single curve."
        )
