"""Ray Tune's loggers for MLflow and Weights & Biases, told what each run is: a grid's trial has only an id to log."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from chemscale.records.store import spec_columns
from chemscale.sweep.trial import Plan

UNSAID = ("spec", "data_content")  # columns too long for a table of runs


def mlflow(uri: str, study: str) -> Any:
    """Ray's logger for an MLflow tracking URI; the study is the experiment.

    Raises:
        ValueError: MLflow is not installed.
    """
    _require("mlflow")
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return MLflowLoggerCallback(tracking_uri=uri, experiment_name=study)


def wandb(project: str, study: str) -> Any:
    """Ray's logger for a project of Weights & Biases; the study is the group.

    WANDB_MODE=offline writes to WANDB_DIR, or to the folder `wandb` here.

    Raises:
        ValueError: W&B is not installed.
    """
    _require("wandb")
    from ray.air.integrations.wandb import WandbLoggerCallback

    kept = Path(os.environ.get("WANDB_DIR", ".")).absolute()  # its default lies in Tune's scratch, which is taken away
    mode: Any = os.environ.get("WANDB_MODE")  # read here: the process that logs has the environment of Ray's start
    return WandbLoggerCallback(project=project, group=study, dir=str(kept), mode=mode)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"--{package} needs a package that is not installed: pip install 'chemscale[{package}]'.")


def informed(callbacks: Sequence[Any], plan: Plan) -> list[Any]:
    """These callbacks of Ray Tune, each told the columns of RUNS of a trial as its configuration, and its examples as
    its time.
    """
    return [Informed(callback, plan) for callback in callbacks]


def _passed_on(name: str) -> Any:
    """A hook that the inner callback sees with the trial's facts."""

    def hook(self: Any, **info: Any) -> Any:
        with self.told(info["trial"]):
            return getattr(self.inner, name)(**info)

    return hook


class Informed(tune.Callback):
    """A callback that sees every trial with a configuration that says what is trained.

    The trial's own configuration stays as it is: searchers learn from it, schedulers mutate it.
    """

    def __init__(self, inner: Any, plan: Plan):
        self.inner, self._plan = inner, plan

    on_trial_start = _passed_on("on_trial_start")
    on_trial_restore = _passed_on("on_trial_restore")
    on_trial_save = _passed_on("on_trial_save")
    on_trial_complete = _passed_on("on_trial_complete")
    on_trial_recover = _passed_on("on_trial_recover")
    on_trial_error = _passed_on("on_trial_error")
    on_checkpoint = _passed_on("on_checkpoint")

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **info: Any) -> None:
        at = {"timesteps_total": result["examples"]} if "examples" in result else {}  # what MLflow calls a step
        with self.told(trial):
            self.inner.on_trial_result(trial=trial, result={**result, **at}, **info)

    def setup(self, *args: Any, **info: Any) -> None:
        self.inner.setup(*args, **info)

    def on_step_begin(self, **info: Any) -> None:
        self.inner.on_step_begin(**info)

    def on_step_end(self, **info: Any) -> None:
        self.inner.on_step_end(**info)

    def on_experiment_end(self, **info: Any) -> None:
        self.inner.on_experiment_end(**info)

    def get_state(self) -> Any:
        return self.inner.get_state()

    def set_state(self, state: Any) -> None:
        self.inner.set_state(state)

    @contextlib.contextmanager
    def told(self, trial: Any) -> Iterator[None]:
        """The trial with the facts of its run in its configuration, for so long."""
        own = trial.config
        try:
            trial.config = {**own, **self._facts(own)}
            yield
        finally:
            trial.config = own

    def _facts(self, config: Any) -> dict[str, Any]:
        try:
            columns = spec_columns(self._plan.run(config))
        except Exception:  # a configuration that names no run; its trial says why
            return {}
        return {name: value for name, value in columns.items() if name not in UNSAID and value is not None}
