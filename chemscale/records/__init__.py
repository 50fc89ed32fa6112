"""What was measured: the only thing that sweeps and laws share."""

from chemscale.records.schema import POINTS, RUNS
from chemscale.records.store import Store

__all__ = ["POINTS", "RUNS", "Store"]
