"""The two tables of a store: RUNS, one row per run, and POINTS, one row per measurement on the way.

Every column has a type, a unit, a nullability and a `volatile` mark. Volatile columns (clocks, hosts, attempts) may
differ when a study is repeated or survives a kill; two tables are *equal* when all other columns are. Missing is null,
never 0 and never NaN.

Layout of a store (every file is written to a temporary name and renamed, so it is whole or absent):

    STORE/
      store.json                          version of this layout
      studies/NAME.STAMP.json             runs that a study asked for, in order, and what else it said; a part each time
      studies/NAME.STAMP.parquet          ASKED: the runs of a part, where they are many
      forecasts/RUN.json                  a prediction registered before the run started; never overwritten
      samples/RUN-REQUEST.json            what a trained text model writes, measured; REQUEST is how it was sampled
      tensorboard/ARCHITECTURE/CELL/RUN/  event files of the same points; CELL is w…-n…-s…, width, size and seed
      tensorboard/laws/LAW/               figures of a law
      checkpoints/RUN/0001/state.pt       all that resuming needs; weights.pt: kept by policy
      runs/RUN/attempts/0001/claim.json   exclusive create: who writes here, and what the run is (the opening row)
      runs/RUN/attempts/0001/heartbeat.json   time, step and examples, renewed every few seconds
      runs/RUN/attempts/0001/points-000001.parquet …   immutable parts while the run lives
      runs/RUN/attempts/0001/points.parquet            all of them, once it has ended
      runs/RUN/attempts/0001/run.json     the worker's word: finished or diverged, one RUNS row
      runs/RUN/attempts/word-0001.json    the driver's word: stopped or failed, why, the count of failures, its token
      manifests/000000001.json            which snapshots count; the highest number holds, created exclusively
      snapshots/NAME.runs.parquet         RUNS rows of ended runs, each with its history as JSON
      snapshots/NAME.points.parquet       their POINTS

A worker writes only below its own attempt and its checkpoints. Readers take, per step, the point of the highest
attempt, and the terminal row of the highest attempt that has one; a worker's terminal row wins over the driver's word,
of which that on the highest attempt counts, and then that of the highest number.

Compaction folds runs that have ended into immutable snapshots, names them in the next manifest, and only then removes
the files that it folded. So `runs/` holds what is live, and what a late worker or a new attempt adds to a folded run:
readers lay it over the snapshot. Checkpoints stay where they are. Whoever reads takes a manifest, then the live files,
and starts again where a newer manifest has appeared in between.

Version 1 had runs/RUN/{spec,about,driver}.json, run.parquet, studies/NAME.json and checkpoints beside the points; such
stores still read, and the first write makes them version 2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

STORE_VERSION = 2
SCHEMA_VERSION = 2

FINISHED, DIVERGED = "finished", "diverged"  # the worker's words
STOPPED, FAILED = "stopped", "failed"  # the driver's words
RUNNING, INTERRUPTED, PENDING = "running", "interrupted", "pending"  # read from claims and heartbeats
STATUSES = (FINISHED, DIVERGED, STOPPED, FAILED, RUNNING, INTERRUPTED, PENDING)

STRING, INTEGER, REAL = pa.string(), pa.int64(), pa.float64()


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, its unit ("" where it has none), what it means."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = True
    volatile: bool = False


@dataclass(frozen=True)
class Schema:
    """The columns of a table, and rows checked against them."""

    name: str
    columns: tuple[Column, ...]

    @cached_property
    def arrow(self) -> pa.Schema:
        """As Arrow sees it, with unit, meaning and volatility as field metadata and the version as table metadata."""
        return pa.schema(
            [
                pa.field(
                    c.name,
                    c.type,
                    c.nullable,
                    {"unit": c.unit, "meaning": c.meaning, "volatile": "true" if c.volatile else "false"},
                )
                for c in self.columns
            ],
            {"chemscale": json.dumps({"table": self.name, "version": SCHEMA_VERSION})},
        )

    @property
    def lasting(self) -> tuple[str, ...]:
        """Names of the columns in which equal tables must agree."""
        return tuple(c.name for c in self.columns if not c.volatile)

    def table(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Rows as a table.

        Raises:
            KeyError: a row has a key that is no column, or lacks a column that may not be null.
            ValueError: a number is not finite.
        """
        checked = [self.checked(row) for row in rows]
        return pa.Table.from_pylist(checked, schema=self.arrow)

    def of(self, names: Iterable[str]) -> Schema:
        """The same table with only these columns, in its own order."""
        wanted = set(names)
        return Schema(self.name, tuple(c for c in self.columns if c.name in wanted))

    def read(self, table: pa.Table) -> pa.Table:
        """A stored table of any version in today's columns: unknown ones dropped, new ones null."""
        arrow = self.arrow
        columns = [
            table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type) for f in arrow
        ]
        return pa.Table.from_arrays(columns, schema=pa.schema([f.with_nullable(True) for f in arrow], arrow.metadata))

    def checked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row with every column, null where it has none; raises as `table`."""
        unknown = set(row) - {c.name for c in self.columns}
        if unknown:
            raise KeyError(f"{self.name} has no column {sorted(unknown)[0]!r}")
        for column in self.columns:
            value = row.get(column.name)
            if value is None and not column.nullable:
                raise KeyError(f"{self.name}.{column.name} may not be null")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{self.name}.{column.name}={value}: a missing number is null, never {value}")
        return {c.name: row.get(c.name) for c in self.columns}


def _metric(name: str, unit: str, meaning: str) -> tuple[Column, Column]:
    return (
        Column(name, REAL, unit, f"{meaning}, on the test set"),
        Column(f"{name}_se", REAL, unit, f"standard error of {name} over the groups of the test set"),
    )


METRICS: dict[str, str] = {
    "nats_per_token": "nats/token",
    "nats_per_molecule": "nats/molecule",
    "force_mae": "eV/angstrom",
    "force_rmse": "eV/angstrom",
    "energy_mae": "eV/atom",
    "energy_rmse": "eV/atom",
}

_MEANING = {
    "nats_per_token": "mean negative log-likelihood of a token, the end token counted, the start token not",
    "nats_per_molecule": "mean negative log-likelihood of a molecule",
    "force_mae": "mean absolute error of a force component",
    "force_rmse": "root mean square error of a force component",
    "energy_mae": "mean absolute error of the energy per atom",
    "energy_rmse": "root mean square error of the energy per atom",
}

UNITS = ("examples", "molecules", "tokens", "structures", "atoms", "edges", "groups")


def _units() -> Iterable[Column]:
    for unit in UNITS:
        yield Column(unit, INTEGER, unit, f"unique training {unit} in the subset")
        yield Column(f"{unit}_seen", INTEGER, unit, f"training {unit} seen, repeats counted")


SPEC_COLUMNS = (  # what a complete spec alone knows
    "run_id", "family", "architecture", "spec", "depth", "width", "examples", "batch", "seed", "subset_key",
    "precision", "optimiser", "lr", "weight_decay", "warmup", "cooldown", "data_source", "data_content",
    "init_from", "init_content", "init_matched", "init_fresh",
)  # fmt: skip

RUNS = Schema(
    "runs",
    (
        Column("run_id", STRING, "", "first 64 bits of the hash of all that can change a number", nullable=False),
        Column("studies", pa.list_(STRING), "", "studies of this store that asked for the run"),
        Column("family", STRING, "", "text or structures", nullable=False),
        Column("architecture", STRING, "", "registered name of the model, with its variant", nullable=False),
        Column("spec", STRING, "JSON", "the whole spec", nullable=False),
        Column("lineage", STRING, "", "run whose weights this one continued; such runs stay out of fits"),
        Column("cluster", STRING, "", "runs that share a subset or a trunk share it; resampling draws them together"),
        Column("params", INTEGER, "parameters", "non-embedding trainable parameters"),
        Column("params_all", INTEGER, "parameters", "all trainable parameters"),
        Column("params_by_group", pa.map_(STRING, INTEGER), "parameters", "trainable parameters by group"),
        Column("depth", INTEGER, "layers", "layers of the model"),
        Column("width", INTEGER, "channels", "width of the model"),
        *_units(),
        Column("epochs", REAL, "epochs", "examples seen over unique examples"),
        Column("updates", INTEGER, "updates", "optimiser steps made"),
        Column("inherited", INTEGER, "updates", "of them, those that another run of the same trunk had made"),
        Column("batch", INTEGER, "examples", "examples of one update"),
        Column("seed", INTEGER, "", "seed of the parameters and of the order", nullable=False),
        Column("subset_key", INTEGER, "", "key of the nested order of the subset", nullable=False),
        Column("precision", STRING, "", "floating type of the training", nullable=False),
        Column("optimiser", STRING, "", "name of the optimiser"),
        Column("lr", REAL, "", "highest learning rate"),
        Column("weight_decay", REAL, "", "weight decay"),
        Column("warmup", REAL, "share", "share of the updates spent warming up"),
        Column("cooldown", REAL, "share", "share of the updates spent cooling down"),
        Column("data_source", STRING, "", "name of the source"),
        Column("data_content", STRING, "", "checksum of the built examples, splits and builder", nullable=False),
        Column("init_from", STRING, "", "run or folder whose weights it started from; null: fresh ones", volatile=True),
        Column("init_content", STRING, "", "checksum of those weights; such runs are no runs from scratch"),
        Column("init_matched", INTEGER, "rows", "tokens or elements whose rows were taken over from there"),
        Column("init_fresh", INTEGER, "rows", "tokens or elements that were not known there"),
        Column("test_checksum", STRING, "", "checksum of the test examples' ids and content"),
        Column("test_examples", INTEGER, "examples", "examples of the test set that were measured"),
        Column("status", STRING, "", "one of " + ", ".join(STATUSES), nullable=False),
        Column("stop_reason", STRING, "", "why a run stopped, failed or diverged"),
        Column("law_loss", REAL, "see law_metric", "the loss that laws are fitted to, on the test set"),
        Column("law_metric", STRING, "", "which metric law_loss is"),
        Column("law_rule", STRING, "", "final: after the cooldown; best: at the best validation checkpoint"),
        Column("valid_loss", REAL, "see law_metric", "the same metric on the validation examples, at the end"),
        Column("best_valid_loss", REAL, "see law_metric", "its best value on the way"),
        Column("best_step", INTEGER, "updates", "where that was"),
        Column("forecast_loss", REAL, "see law_metric", "where a run stopped early would have ended, on validation"),
        Column("forecast_low", REAL, "see law_metric", "lower end of its 95 % interval"),
        Column("forecast_high", REAL, "see law_metric", "upper end of its 95 % interval"),
        *(column for name, unit in METRICS.items() for column in _metric(name, unit, _MEANING[name])),
        Column("other_metrics", pa.map_(STRING, REAL), "", "test metrics of objectives registered by the user"),
        Column("flops", REAL, "FLOPs", "matrix work of all forward, backward and double-backward passes trained on"),
        Column(
            "flops_rule", INTEGER, "", "by which way of working they are counted; null: from before this was told, 1"
        ),
        Column("flops_elementwise", REAL, "elements", "elements touched by all other work"),
        Column("seconds", REAL, "s", "wall time in the loop, all attempts", volatile=True),
        Column("device_seconds", REAL, "s", "time in training steps x devices, warm-up excluded", volatile=True),
        Column("joules", REAL, "J", "energy of the devices where it can be read", volatile=True),
        Column("device", STRING, "", "processor or GPU", volatile=True),
        Column("devices", INTEGER, "", "how many of them", volatile=True),
        Column("host", STRING, "", "machine of rank 0", volatile=True),
        Column("attempt", INTEGER, "", "the attempt that ended the run", volatile=True),
        Column("started", REAL, "s since 1970", "when this attempt started", volatile=True),
        Column("ended", REAL, "s since 1970", "when it ended", volatile=True),
        Column("versions", STRING, "JSON", "chemscale, commit, python, libraries", volatile=True),
    ),
)

POINTS = Schema(
    "points",
    (
        Column("run_id", STRING, "", "the run", nullable=False),
        Column("attempt", INTEGER, "", "the attempt that measured it", nullable=False, volatile=True),
        Column("step", INTEGER, "updates", "optimiser steps made", nullable=False),
        Column("examples", INTEGER, "examples", "examples seen", nullable=False),
        Column("tokens", INTEGER, "tokens", "tokens seen"),
        Column("atoms", INTEGER, "atoms", "atoms seen"),
        Column("epochs", REAL, "epochs", "examples seen over unique examples"),
        Column("flops", REAL, "FLOPs", "matrix work so far"),
        Column("lr", REAL, "", "learning rate of the last step"),
        Column("train_loss", REAL, "see objective", "mean training loss since the last point"),
        Column("valid_loss", REAL, "see law_metric", "headline metric on the validation examples"),
        Column("valid_loss_se", REAL, "see law_metric", "its standard error"),
        *(Column(f"valid_{name}", REAL, unit, f"{name} on the validation examples") for name, unit in METRICS.items()),
        Column("gradient_norm", REAL, "", "global gradient norm of the last step, before clipping"),
        Column("changed", STRING, "JSON", "hyperparameters that changed on the way"),
        Column("seconds", REAL, "s", "wall time in the loop so far", volatile=True),
        Column("joules", REAL, "J", "energy so far", volatile=True),
    ),
)

ASKED = Schema(
    "asked",
    (
        *(column for column in RUNS.columns if column.name in SPEC_COLUMNS),
        Column("to_see", INTEGER, "examples", "examples that the budget asks for"),
        Column("work", REAL, "s", "estimated time in the loop"),
    ),
)


def equal(a: pa.Table, b: pa.Table, schema: Schema) -> bool:
    """Whether two tables agree in every column that is not volatile, whatever the order of their rows."""
    keys = [(name, "ascending") for name in ("run_id", "step") if name in schema.lasting]
    return all(
        x.equals(y)
        for x, y in zip(
            (a.sort_by(keys).select(schema.lasting)).combine_chunks().columns,
            (b.sort_by(keys).select(schema.lasting)).combine_chunks().columns,
            strict=True,
        )
    )
