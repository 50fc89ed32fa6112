"""The head node of a Ray cluster as a client meets it: Ray's job client, whose failures are one sentence each."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shlex
import time
from collections.abc import Iterator
from typing import Any

from chemscale.sweep.cluster import CONNECT_SECONDS, hidden

ANSWER_SECONDS = 120.0
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's client prefers these to the address that it is given
CHATTY = ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
REPORT_SECONDS = 60.0  # a head node that has just started, or is busy, says after a while what runs on it
INTERPRETER = "--python_worker_command="  # of the raylet; begins with the interpreter that Ray itself runs under
TOKEN = "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"


class UnreachableError(ValueError):
    """Nobody answers at the address."""


def connect(address: str) -> Any:
    """A `ray.job_submission.JobSubmissionClient` of the head node at `address`, e.g. "http://head:8265".

    Raises:
        ValueError: Ray's job client is not installed, the address is no HTTP address, no head node answers there
            (`UnreachableError`), or it refuses the token.
    """
    if not address.startswith(("http://", "https://")):  # Ray would import any other scheme as a module
        raise ValueError(f"address={address!r} is not a head node's; give its dashboard's URL, e.g. http://HEAD:8265.")
    if missing := _missing():
        raise ValueError(
            f"jobs on a cluster need Ray's job client, and {missing} is not installed; "
            "`pip install 'chemscale[jobs]'` brings it."
        )
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **given: Any) -> Any:
            return super()._do_request(method, endpoint, **{"timeout": (CONNECT_SECONDS, ANSWER_SECONDS), **given})

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    with answers(address), hidden(OVERRIDES):
        return Client(address)


def _missing() -> str | None:
    return next((name for name in ("aiohttp", "requests") if importlib.util.find_spec(name) is None), None)


@contextlib.contextmanager
def answers(address: str, job: str | None = None) -> Iterator[None]:
    """Turn what Ray's client raises into one sentence.

    Raises:
        ValueError: `UnreachableError`, a refused token, or an unknown job.
        RuntimeError: the head node answered with another failure.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise ValueError(_refusal(address, str(error))) from None
    except (ConnectionError, requests.exceptions.ConnectionError, requests.exceptions.Timeout):
        raise UnreachableError(
            f"address={address!r} cannot be reached; check that the head node runs and that this machine may open its "
            "port, e.g. through `ssh -L 8265:localhost:8265 HEAD` and http://localhost:8265."
        ) from None
    except (requests.exceptions.RequestException, KeyError) as error:
        raise ValueError(_stranger(address, error)) from None
    except RuntimeError as error:
        if "Version check" in str(error):
            raise ValueError(_stranger(address, error)) from None
        if job is not None and "404" in str(error):
            raise ValueError(
                f"job={job!r} is unknown to {address}; `chemscale status --address {address}` lists its jobs, and a "
                "restarted head node has forgotten those before."
            ) from None
        raise RuntimeError(f"{address} failed: {_last_line(error)}") from None


def _refusal(address: str, text: str) -> str:
    if "failed" in text:
        return f"address={address!r} refused the token; set {TOKEN} to the token that the cluster was started with."
    if "RAY_AUTH_TOKEN_PATH is set" in text:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH")
        return f"RAY_AUTH_TOKEN_PATH={path!r} cannot be read or is empty; name the file with the cluster's token."
    return f"address={address!r} asks for a token and none was given; set {TOKEN} to the cluster's token."


def _stranger(address: str, error: Exception) -> str:
    return (
        f"address={address!r} does not answer as a Ray head node ({_last_line(error)}); give the URL of Ray's "
        "dashboard, e.g. http://HEAD:8265."
    )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip(" .")]
    return lines[-1].strip() if lines else type(error).__name__


def interpreter(client: Any) -> str:
    """The Python that Ray runs under on the head node; "python" where the node does not say.

    A job's `python` is the first on the head node's PATH, which need not be the one that has chemscale.
    """
    end = time.monotonic() + REPORT_SECONDS
    while time.monotonic() < end:
        answer = client._do_request("GET", "/nodes?view=summary")
        nodes = answer.json()["data"]["summary"] if answer.status_code == 200 else []
        for node in nodes:
            for argument in node.get("cmdline") or () if node.get("raylet", {}).get("isHeadNode") else ():
                if argument.startswith(INTERPRETER):
                    return shlex.split(argument.removeprefix(INTERPRETER))[0]
        time.sleep(0.5)
    return "python"
