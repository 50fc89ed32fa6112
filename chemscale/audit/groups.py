"""Rows of a store sorted into what may share a law: one architecture, one data set, one precision, one metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chemscale.records.schema import FINISHED, METRICS

Row = dict[str, Any]

NAMES = {
    "chemgpt": "ChemGPT", "schnet": "SchNet", "painn": "PaiNN", "nequip": "NequIP", "allegro": "Allegro",
    "spookynet": "SpookyNet", "dimenet": "DimeNet++", "cartesian": "Cartesian",
}  # fmt: skip
DATA = {"text": "molecules", "structures": "structures"}


def name_of(architecture: str) -> str:
    """An architecture as people write it, with what sets it apart: "nequip_l2" is NequIP l2."""
    family, _, variant = architecture.partition("_")
    known = NAMES.get(architecture) or (f"{NAMES[family]} {variant.replace('_', ' ')}" if family in NAMES else None)
    return known or architecture


@dataclass(frozen=True)
class Measure:
    """How a metric is shown: in words, in which unit, and the factor from the store's unit to that one."""

    words: str
    unit: str
    scale: float = 1.0


MEASURES = {
    "nats_per_token": Measure("loss", "nats per token"),
    "nats_per_molecule": Measure("loss per molecule", "nats per molecule"),
    "force_mae": Measure("force error", "meV/angstrom", 1000.0),
    "force_rmse": Measure("force error (RMSE)", "meV/angstrom", 1000.0),
    "energy_mae": Measure("energy error", "meV/atom", 1000.0),
    "energy_rmse": Measure("energy error (RMSE)", "meV/atom", 1000.0),
}


@dataclass(frozen=True)
class Group:
    """Runs that may share a law.

    Attributes:
        rows: the finished runs that laws are about.
        others: rows of the same kind that are not: not finished, continued from another run, worse trials of a
            search.
        spare: finished runs that laws would be about were there not so many (see `thinning`).
        metric, data: columns of the loss and of the unique training units.
        label: told apart from other groups of the same architecture where there are any.
    """

    architecture: str
    family: str
    source: str
    content: str
    precision: str
    metric: str
    data: str
    rows: tuple[Row, ...]
    others: tuple[Row, ...] = ()
    label: str = ""
    searched: int = field(default=0)
    spare: tuple[Row, ...] = ()

    @property
    def whole(self) -> tuple[Row, ...]:
        """Every finished run that laws are about, those that the law does without included."""
        return (*self.rows, *self.spare)

    @property
    def name(self) -> str:
        """As people write the architecture."""
        return name_of(self.architecture)

    @property
    def title(self) -> str:
        """The name, with what tells it from its namesakes."""
        return f"{self.name} ({self.label})" if self.label else self.name

    @property
    def measure(self) -> Measure:
        """How its metric is shown."""
        return MEASURES.get(self.metric, Measure(self.metric.replace("_", " "), ""))

    @property
    def slug(self) -> str:
        """A name for files and anchors."""
        parts = [self.architecture, self.label, self.metric]
        return "-".join("".join(c if c.isalnum() else "-" for c in p.lower()) for p in parts if p)

    def best(self) -> Row:
        """The run with the lowest validation loss, which saw nothing of the test set; else the lowest test loss."""
        judged = [row for row in self.rows if row["best_valid_loss"] is not None]
        return min(judged or self.rows, key=lambda row: row["best_valid_loss"] if judged else row[self.metric])


def groups_of(runs: Iterable[Row], metrics: Sequence[str] | None = None) -> tuple[Group, ...]:
    """The groups that have a finished run, text first, in order of names.

    Args:
        runs: rows of RUNS.
        metrics: columns of RUNS; each architecture is shown by those that its runs have. None: its `law_metric`.

    Raises:
        ValueError: a metric is unknown.
    """
    for name in metrics or ():
        if name not in METRICS:
            raise ValueError(f"metrics names {name!r}; it must be of {', '.join(METRICS)}.")
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in runs:
        kinds.setdefault((row["architecture"], row["data_content"], row["precision"]), []).append(row)
    found = [group for rows in kinds.values() for group in _split(rows, metrics)]
    found.sort(key=lambda g: (g.family != "text", g.name, g.content, g.precision, g.metric))
    return tuple(_labelled(found))


def _split(rows: list[Row], metrics: Sequence[str] | None) -> Iterable[Group]:
    plain = (r for r in rows if r["lineage"] is None and r.get("init_content") is None)
    usable = [r for r in plain if r["status"] == FINISHED and r["params"]]
    asked = metrics or sorted({r["law_metric"] for r in usable if r["law_metric"] is not None})
    for metric in asked:
        if metric not in METRICS:  # an objective of the user's own: its loss is in law_loss
            usable = [{**r, metric: r["law_loss"], f"{metric}_se": None} for r in usable if r["law_metric"] == metric]
        mine = [r for r in usable if r[metric] is not None and (metrics or r["law_metric"] == metric)]
        if mine:
            yield _group(rows, mine, metric)


def _group(rows: list[Row], mine: list[Row], metric: str) -> Group:
    first = mine[0]
    column = DATA.get(first["family"], "examples")
    data = column if all(row[column] for row in mine) else "examples"
    tuned = _tuned(mine, data, metric)
    kept = {row["run_id"] for row in tuned}
    tuned.sort(key=lambda row: (row["params"], row[data], row["seed"]))
    others = tuple(row for row in rows if row["run_id"] not in kept)
    return Group(
        first["architecture"], first["family"], first["data_source"] or "", first["data_content"], first["precision"],
        metric, data, tuple(tuned), others, searched=len(mine) - len(tuned),
    )  # fmt: skip


def _tuned(rows: list[Row], data: str, metric: str) -> list[Row]:
    """Of runs of one cell that differ in hyperparameters only (a search), the one that validated best."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["params"], row["depth"], row[data], row["seed"], row["subset_key"]), []).append(row)
    return [
        min(same, key=lambda r: r["valid_loss"] if r["valid_loss"] is not None else r[metric])
        for same in cells.values()
    ]


def _labelled(found: list[Group]) -> Iterable[Group]:
    for group in found:
        same = [g for g in found if g.architecture == group.architecture and g.metric == group.metric]
        parts = []
        if len({g.content for g in same}) > 1:
            sources = {g.source for g in same}
            parts.append(group.source if len(sources) == len({g.content for g in same}) else group.content[:6])
        if len({g.precision for g in same}) > 1:
            parts.append(group.precision)
        yield replace(group, label=", ".join(parts))
