"""Runs made ready to train: their sources built, their fields completed."""

from __future__ import annotations

from collections.abc import Sequence

from chemscale import data
from chemscale.spec import RunSpec
from chemscale.sweep.placement import On, resources_for
from chemscale.train.complete import complete
from chemscale.train.ranks import require_sharding


def prepare(runs: Sequence[RunSpec], on: On | None) -> list[RunSpec]:
    """Build the sources that these runs need, then complete every run.

    Raises:
        ValueError: a model cannot be shared out as asked, a source is unknown or has no good record, or a size is
            larger than it.
    """
    for run in runs:
        require_sharding(run, resources_for(on, run))
    ways = ((r.data.source, r.data.representation, r.data.reading) for r in runs)
    for source, representation, reading in dict.fromkeys(ways):
        data.build(source, representation=representation, reading=reading)
    return [complete(run) for run in runs]
