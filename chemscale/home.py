"""Where this package keeps what it makes for itself on a machine: data built or fetched, kernels compiled."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$CHEMSCALE_HOME`, or `~/.cache/chemscale`."""
    given = os.environ.get("CHEMSCALE_HOME")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "chemscale"
