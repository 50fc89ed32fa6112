"""Jobs on a remote cluster: submit, status, logs, stop."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import Any

from chemscale.cli.output import print_json, print_record, print_rows, resources_of
from chemscale.cli.studies import status_of_store


def submit(given: argparse.Namespace) -> None:
    """Run a recipe on a remote Ray cluster as a job that outlives this connection."""
    from chemscale.sweep import jobs
    from chemscale.sweep.recipe import parse_options

    address = _address(given)
    job = jobs.submit(
        given.recipe,
        address=address,
        store=given.store,
        options=parse_options(given.set),
        on=resources_of(given),
        working_dir=given.working_dir,
        pip=_packages(given.pip),
        uv=_packages(given.uv),
        env=_variables(given.env),
    )
    if given.json:
        return print_json({"job": job.id, "address": address})
    print(f"{job.id} is submitted to {address}; this machine may go away.")
    for verb in ("logs", "status", "stop"):
        print(f"  chemscale {verb} {job.id} {'-f ' if verb == 'logs' else ''}--address {address}")
    return None


def _packages(given: list[str] | None) -> list[str] | str | None:
    return given[0] if given and len(given) == 1 else given


def _variables(settings: list[str]) -> dict[str, str]:
    for setting in settings:
        if not setting.partition("=")[1] or not setting.partition("=")[0]:
            raise ValueError(f"--env {setting!r} is no setting; write --env NAME=VALUE.")
    return {name: value for name, _, value in (setting.partition("=") for setting in settings)}


def status(given: argparse.Namespace) -> None:
    """How far a store's studies are; or with --address, how a cluster's jobs are."""
    if not given.address:
        if given.what is None:
            raise ValueError("status of what? Give a store, or --address URL for the jobs of a cluster.")
        return status_of_store(given)
    from chemscale.sweep.jobs import Job, jobs

    if given.what is None:
        return print_rows([_readable(state, given.json) for state in jobs(given.address)], given.json)
    return print_record(_readable(Job(given.address, given.what).state(), given.json), given.json)


def _readable(state: Any, as_json: bool) -> dict[str, Any]:
    row = dataclasses.asdict(state)
    return row if as_json else {**row, "started": _clock(state.started), "ended": _clock(state.ended)}


def _clock(at: float | None) -> str | None:
    return None if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def logs(given: argparse.Namespace) -> int:
    """What a job's driver has printed; with -f as it comes, until the job ends."""
    from chemscale.sweep.follow import follow
    from chemscale.sweep.jobs import FAILED, Job

    job = Job(_address(given), given.job)
    if given.json and given.follow:
        raise ValueError("--json and --follow do not go together; a log that grows is no JSON value.")
    if not given.follow:
        text = job.logs()
        print_json({"job": job.id, "log": text}) if given.json else print(text, end="")
        return 0
    for text in follow(job, say=lambda sentence: print(f"chemscale: {sentence}", file=sys.stderr)):
        print(text, end="", flush=True)
    state = job.state()
    print(f"chemscale: job {job.id} {state.status}", file=sys.stderr)
    return 1 if state.status == FAILED else 0


def stop(given: argparse.Namespace) -> None:
    """End a job's driver; its study goes on when the same recipe is submitted with the same store again."""
    from chemscale.sweep.jobs import Job

    state = Job(_address(given), given.job).stop()
    if given.json:
        return print_json(dataclasses.asdict(state))
    print(f"{state.id} {state.status}")
    return None


def _address(given: argparse.Namespace) -> str:
    if not given.address:
        raise ValueError("--address is missing; give the URL of the head node's dashboard, e.g. http://HEAD:8265.")
    return given.address
