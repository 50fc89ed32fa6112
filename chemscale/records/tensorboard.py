"""The points of a run as TensorBoard event files, with its hyperparameters: `tensorboard --logdir STORE/tensorboard`.

A step of an event is an integer, so each axis has a unit in which whole numbers are fine enough; its name says which.
Every loss and metric is written on all axes, so that runs of any batch, model and speed lie over each other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chemscale.records.events import EventFile, proto
from chemscale.records.schema import DIVERGED, FINISHED, METRICS


@dataclass(frozen=True)
class Axis:
    """What the steps of a group of tags count: a column of POINTS, times `scale`."""

    group: str
    column: str
    scale: float


AXES = (
    Axis("by_examples", "examples", 1.0),
    Axis("by_megaflops", "flops", 1e-6),  # 64 bits of FLOPs would end at 9e18
    Axis("by_milliseconds", "seconds", 1e3),
)
MEASURED = ("train_loss", "valid_loss", *(f"valid_{name}" for name in METRICS))
OPTIMISER = ("lr", "gradient_norm")  # against examples only

HYPERPARAMETERS: dict[str, type] = {
    "architecture": str, "params": float, "width": float, "depth": float, "data_source": str, "examples": float,
    "batch": float, "lr": float, "weight_decay": float, "warmup": float, "cooldown": float, "seed": float,
}  # fmt: skip
VARIED = ("architecture", "params", "width", "examples", "lr", "seed")  # shown first
FINAL = ("law_loss", *METRICS)  # on the test set


class Board:
    """Event files of one run.

    They are a copy of what the store holds, so a disk that refuses them for a while stops no run: as soon as it takes
    files again, a new one holds all that was measured.

    Args:
        folder: a local folder of the run's own (`run_folder` below `STORE/tensorboard`).
        opening: what the run is, as columns of RUNS.
        measured: points that earlier attempts measured and this one will not measure again.
    """

    def __init__(self, folder: Path, opening: Mapping[str, Any], measured: Sequence[Mapping[str, Any]] = ()):
        self._folder, self._opening = folder, dict(opening)
        self._measured = [dict(row) for row in measured]
        before = self._measured[-1].get("seconds") if self._measured else None
        self._born = time.time() - (before or 0.0)  # TensorBoard's own relative time is then that in the loop
        self._file: EventFile | None = None
        self._write([])

    def point(self, row: Mapping[str, Any]) -> None:
        """One measurement, on every axis that it has."""
        self._measured.append(dict(row))
        self._write([row])

    def close(self, row: Mapping[str, Any] | None = None) -> None:
        """Write the final test metrics of a terminal row, if there is one, and close."""
        self._write([], ended=row)
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()

    def _write(self, rows: Sequence[Mapping[str, Any]], ended: Mapping[str, Any] | None = None) -> None:
        try:
            if self._file is None:
                self._file, rows = EventFile(self._folder), self._measured
                self._file.summaries([_columns(), _row(self._opening)])
            for row in rows:
                self._scalars(self._file, row)
            if ended is not None:
                self._file.scalars(_tags("final", FINAL, ended), ended["examples_seen"])
                self._file.summaries([_outcome(ended)])
            self._file.flush()
        except OSError:
            self._file = None

    def _scalars(self, file: EventFile, row: Mapping[str, Any]) -> None:
        wall_time = self._born + row["seconds"] if row.get("seconds") is not None else None
        for axis in AXES:
            if row.get(axis.column) is not None:
                tags = _tags(axis.group, MEASURED, row)
                if axis is AXES[0]:
                    tags |= _tags("optimiser", OPTIMISER, row)
                file.scalars(tags, round(row[axis.column] * axis.scale), wall_time)


def run_folder(row: Mapping[str, Any]) -> PurePosixPath:
    """Where the events of a run lie below `STORE/tensorboard`: `chemgpt/w64-n1000-s0/RUN`, for people to pick from.

    Args:
        row: the columns of RUNS that a spec alone knows.
    """
    cell = f"w{row['width']}-n{row['examples']}-s{row['seed']}"
    return PurePosixPath(row["architecture"], cell, row["run_id"])


def _tags(group: str, names: Sequence[str], row: Mapping[str, Any]) -> dict[str, float]:
    return {f"{group}/{name}": row[name] for name in names if row.get(name) is not None}


def _columns() -> Any:
    """What the table of runs shows; the same in every run, since TensorBoard takes the first that it finds."""
    from tensorboard.plugins.hparams import metadata

    api = proto("plugins.hparams.api_pb2")
    types = {str: api.DATA_TYPE_STRING, float: api.DATA_TYPE_FLOAT64}
    given = [
        api.HParamInfo(name=name, type=types[kind], differs=name in VARIED) for name, kind in HYPERPARAMETERS.items()
    ]
    shown = {"final/law_loss": "test law_loss", "by_examples/valid_loss": "valid_loss"}
    shown |= {f"final/{name}": f"test {name}" for name in METRICS}
    measured = [api.MetricInfo(name=api.MetricName(tag=tag), display_name=name) for tag, name in shown.items()]
    plugin = proto("plugins.hparams.plugin_data_pb2")
    experiment = api.Experiment(hparam_infos=given, metric_infos=measured)
    return _of_plugin(metadata.EXPERIMENT_TAG, plugin.HParamsPluginData(experiment=experiment))


def _row(row: Mapping[str, Any]) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    given = {name: row[name] for name in HYPERPARAMETERS if row.get(name) is not None}
    return hparams_pb(given, trial_id=str(run_folder(row)), start_time_secs=row.get("started"))


def _outcome(row: Mapping[str, Any]) -> Any:
    from tensorboard.plugins.hparams import metadata

    api, plugin = proto("plugins.hparams.api_pb2"), proto("plugins.hparams.plugin_data_pb2")
    status = {FINISHED: api.STATUS_SUCCESS, DIVERGED: api.STATUS_FAILURE}[row["status"]]
    ended = plugin.SessionEndInfo(status=status, end_time_secs=row.get("ended"))
    return _of_plugin(metadata.SESSION_END_INFO_TAG, plugin.HParamsPluginData(session_end_info=ended))


def _of_plugin(tag: str, content: Any) -> Any:
    from tensorboard.plugins.hparams import metadata

    summary = proto("compat.proto.summary_pb2").Summary
    about = metadata.create_summary_metadata(content)
    return summary(value=[summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
