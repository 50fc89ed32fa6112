"""Arguments of the verbs that run recipes on a cluster."""

from __future__ import annotations

import argparse
import os
from typing import Any

from chemscale.cli import jobs
from chemscale.cli.arguments.common import verb, with_resources

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own name for the URL of a cluster's dashboard


def cluster_jobs(verbs: Any) -> None:
    """`submit`, `status`, `logs` and `stop`."""
    made = verb(verbs, "submit", jobs.submit)
    made.add_argument("recipe", help="a Python file with a function `recipe`, e.g. tune_jobs/quickstart.py")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the recipe")
    made.add_argument("--store", required=True, help="absolute path on a disk that all nodes share, or a URL")
    _with_address(made)
    made.add_argument("--working-dir", metavar="DIR", help="folder that is sent along (default: the recipe alone)")
    packages = made.add_mutually_exclusive_group()
    for tool in ("pip", "uv"):
        made_by = f"a requirements file or packages that every node installs by {tool} for this job"
        packages.add_argument(f"--{tool}", nargs="+", metavar="PACKAGE", help=made_by)
    made.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of the driver and its workers")
    with_resources(made)
    made = verb(verbs, "status", jobs.status)
    made.add_argument("what", nargs="?", metavar="STORE|JOB", help="a store, or with --address a job (default: all)")
    made.add_argument("--follow", action="store_true", help="of a store: every five seconds until all has ended")
    made.add_argument("--address", metavar="URL", help="of a head node, to ask for its jobs")
    made = verb(verbs, "logs", jobs.logs)
    made.add_argument("job", help="its id, as `chemscale submit` printed it")
    made.add_argument("-f", "--follow", action="store_true", help="until the job ends, over connections that break")
    _with_address(made)
    made = verb(verbs, "stop", jobs.stop)
    made.add_argument("job", help="its id, as `chemscale submit` printed it")
    _with_address(made)


def _with_address(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--address", metavar="URL", default=os.environ.get(ADDRESS), help=f"of the head node (default: ${ADDRESS})"
    )
