"""Jobs: a recipe submitted to a remote Ray cluster, watched and stopped from here, by Ray's job API.

The driver runs on the head node and outlives this machine's connection. What it measures goes to the store; a job that
was stopped, or whose cluster is gone, goes on when the same recipe is submitted with the same store again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemscale.spec import Resources
from chemscale.sweep import head
from chemscale.sweep.grid import Study
from chemscale.sweep.luggage import EXCLUDED, luggage
from chemscale.sweep.recipe import load_recipe
from chemscale.sweep.search import Search

PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED = "pending", "running", "stopped", "succeeded", "failed"
ENDED = (STOPPED, SUCCEEDED, FAILED)
STOP_SECONDS = 30.0  # Ray asks the driver to end, and kills it after three seconds
MARK = "chemscale"  # the key of the metadata by which our jobs are known


@dataclass(frozen=True)
class JobState:
    """Where a job stands.

    Attributes:
        status: "pending", "running", "stopped", "succeeded" or "failed".
        recipe, study, store: what was submitted; None for a job that chemscale did not submit.
        message: the last line of a failed job's log, else what Ray says of it.
        started, ended: seconds since the epoch; None where it has not.
    """

    id: str
    status: str
    recipe: str | None
    study: str | None
    store: str | None
    message: str | None
    started: float | None
    ended: float | None


@dataclass(frozen=True)
class Job:
    """A job on the cluster whose head node answers at `address`."""

    address: str
    id: str

    def state(self) -> JobState:
        """Where it stands now.

        Raises:
            ValueError: no such job, no such head node, or a refused token.
        """
        client = head.connect(self.address)
        with head.answers(self.address, self.id):
            return _state(client.get_job_info(self.id))

    def logs(self) -> str:
        """What its driver has printed so far.

        Raises:
            ValueError: as `state`.
        """
        client = head.connect(self.address)
        with head.answers(self.address, self.id):
            return client.get_job_logs(self.id)

    def stop(self) -> JobState:
        """End its driver, and wait until it has ended; what its runs have written stays, and counts.

        Raises:
            ValueError: as `state`.
            RuntimeError: it has not ended in time.
        """
        client = head.connect(self.address)
        end = time.monotonic() + STOP_SECONDS
        with head.answers(self.address, self.id):
            client.stop_job(self.id)
            while (state := _state(client.get_job_info(self.id))).status not in ENDED and time.monotonic() < end:
                time.sleep(0.2)
        if state.status not in ENDED:
            raise RuntimeError(f"job {self.id} is still {state.status} {STOP_SECONDS:.0f} s after it was told to end.")
        return state


def submit(
    recipe: str,
    *,
    address: str,
    store: str,
    options: Mapping[str, Any] | None = None,
    on: Resources | None = None,
    working_dir: str | Path | None = None,
    pip: str | Sequence[str] | None = None,
    uv: str | Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Job:
    """Run a recipe on a remote cluster as a job: `chemscale sweep` or `search` there, by what the recipe returns.

    Args:
        recipe: the file, below `working_dir`.
        address: URL of the head node's dashboard, e.g. "http://head:8265".
        store: absolute path on a disk that all nodes share, or a URL, e.g. "s3://bucket/runs".
        options: arguments of the recipe.
        on: workers, processors and GPUs of each run.
        working_dir: folder that is sent along, without what its .gitignore names; None sends the recipe alone.
        pip, uv: a requirements file or packages that every node installs for this job.
        env: environment variables of the driver and its workers.

    Raises:
        ValueError: a bad input, an unreachable head node, a refused token, or a job that already runs this study on
            this store; nothing has been submitted then.
    """
    plan = load_recipe(recipe, options)
    _require_far_store(store)
    if pip and uv:
        raise ValueError("pip= and uv= were both given; give one of them.")
    asked = {"pip": _packages(pip), "uv": _packages(uv), "env_vars": dict(env or {})}
    with luggage(recipe, working_dir) as (folder, inside):
        client = head.connect(address)
        with head.answers(address):
            name = _next_id(_ours(client), plan.name, store, address)
            python = "python" if pip or uv else head.interpreter(client)  # Ray activates an environment it installs
            command = entrypoint(plan, inside, store, options or {}, on or Resources(), python)
            about = {MARK: plan.name, "recipe": recipe, "store": store}
            runtime = {"working_dir": str(folder), "excludes": [*EXCLUDED], **{k: v for k, v in asked.items() if v}}
            try:
                client.submit_job(entrypoint=command, submission_id=name, metadata=about, runtime_env=runtime)
            except RuntimeError as error:
                if "already exists" in str(error):  # another client took the id since we looked
                    raise ValueError(_already(name, plan.name, store, address)) from None
                raise
    return Job(address, name)


def jobs(address: str) -> list[JobState]:
    """The jobs that chemscale submitted to a cluster, oldest first.

    Raises:
        ValueError: no such head node, or a refused token.
    """
    client = head.connect(address)
    with head.answers(address):
        return _ours(client)


def entrypoint(
    plan: Study | Search, recipe: str, store: str, options: Mapping[str, Any], on: Resources, python: str = "python"
) -> str:
    """The command that a job runs on the head node, in the folder that was sent along."""
    verb = "search" if isinstance(plan, Search) else "sweep"
    words = [python, "-m", "chemscale", verb, recipe, "--store", store]
    for name, value in options.items():
        words += ["--set", f"{name}={value!r}"]
    for field in dataclasses.fields(on):
        if (value := getattr(on, field.name)) != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return "exec " + shlex.join(words)  # without a shell between Ray and the driver


def _require_far_store(store: str) -> None:
    if "://" not in store and not Path(store).is_absolute():
        raise ValueError(
            f"store={store!r} is relative, and a job's folder goes with the job; give an absolute path on a disk that "
            "all nodes share, or a URL, e.g. s3://bucket/runs."
        )


def _packages(given: str | Sequence[str] | None) -> str | list[str] | None:
    """Packages as Ray takes them: the path of a requirements file, or a list."""
    if isinstance(given, str):
        return given if Path(given).is_file() else [given]
    return list(given) if given else None


def _next_id(known: Sequence[JobState], study: str, store: str, address: str) -> str:
    """The id of the next job of a study on a store; refused while one is under way."""
    stem = f"{study}-{_digest(study, store.rstrip('/'))}"
    same = [state for state in known if state.id.rpartition("-")[0] == stem]
    for state in same:
        if state.status not in ENDED:
            raise ValueError(_already(state.id, study, store, address))
    return f"{stem}-{1 + max((int(state.id.rpartition('-')[2]) for state in same), default=0)}"


def _digest(*words: str) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:6]


def _already(job: str, study: str, store: str, address: str) -> str:
    return (
        f"job {job} is already at work on study {study!r} of store {store!r}; follow it with `chemscale logs {job} -f "
        f"--address {address}`, or end it first with `chemscale stop {job} --address {address}`."
    )


def _ours(client: Any) -> list[JobState]:
    found = [_state(info) for info in client.list_jobs() if MARK in (info.metadata or {})]
    return sorted(found, key=lambda state: (state.started or 0.0, state.id))


def _state(info: Any) -> JobState:
    about = info.metadata or {}
    status = str(getattr(info.status, "value", info.status)).lower()
    lines = [line.strip() for line in (info.message or "").splitlines() if line.strip()]
    started, ended = (None if at is None else at / 1000 for at in (info.start_time, info.end_time))
    return JobState(
        info.submission_id or info.job_id, status, about.get("recipe"), about.get(MARK), about.get("store"),
        lines[-1] if lines else None, started, ended,
    )  # fmt: skip
