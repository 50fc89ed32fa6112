"""What every finished text run of a study writes, measured and kept beside its loss.

One JSON file for each run and request, `samples/RUN-REQUEST.json` in the store; a run that has its file is not sampled
again. What is measured changes no run and no id.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from chemscale.data.sources import file_checksum
from chemscale.records.place import Place
from chemscale.records.store import Store
from chemscale.spec import Resources, RunSpec
from chemscale.train.state import kept_weights
from chemscale.use.generate import Request, generate_blocks
from chemscale.use.load import load
from chemscale.use.quality.reference import MOSES, Reference, reference, require_reference
from chemscale.use.quality.score import Scores, score

FOLDER = "samples"
FROM_RUN = ("architecture", "params", "molecules", "tokens", "flops", "seed", "law_loss", "law_metric")
REFERENCES = 2  # that a process keeps: MOSES has 1.6 million known molecules


@dataclass(frozen=True)
class Sampling:
    """How every cell is sampled and what the sample is held against; given to `cs.sweep` as `beside`.

    Args:
        n: strings. FCD depends on their number: keep to one.
        temperature, seed: of the sampling.
        reference: "moses", "embedded" or a file (`chemscale.use.quality.reference`).
        training: a file of molecules that are not new; None takes those that the reference names.

    Raises:
        ValueError: a number is out of range.
    """

    n: int = 3000
    temperature: float = 1.0
    seed: int = 0
    reference: str = MOSES
    training: str | None = None

    def __post_init__(self) -> None:
        self.request()

    def request(self) -> Request:
        """What the model is asked for."""
        return Request(self.n, self.temperature, seed=self.seed)

    def require(self) -> None:
        """Raises ValueError where the reference, or what reads it, is not on this machine."""
        require_reference(self.reference, self.training)

    def wants(self, run: RunSpec, place: Place) -> bool:
        """Whether this is a text run that the store has no such sample of."""
        return run.model.family == "text" and not place.exists(_name(run.id, self))

    def measure(self, run: RunSpec, module: nn.Module, manifest: Any, place: Place, on: Resources) -> None:
        """Sample a trained module on the processor and keep what was found beside the run."""
        processes = max(1, int(on.cpus))
        place.write_json(_name(run.id, self), _measured(module, manifest, self, processes, False))

    def catch_up(self, store: Store, runs: Mapping[str, RunSpec]) -> None:
        """Sample those of these runs that have finished, kept their weights, and have no such sample."""
        missing = {run_id for run_id, run in runs.items() if self.wants(run, store.place)}
        for row in score_cells(store, self, only=missing):
            print(f"{row['run_id']}: sampled, loss {row['law_loss']:.4f}", file=sys.stderr)


def score_cells(
    store: Store,
    how: Sampling,
    *,
    only: Collection[str] | None = None,
    processes: int | None = None,
    progress: bool | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of all finished text runs, the missing ones measured and kept first; those without weights are left out.

    Args:
        only: ids of the runs.

    Returns:
        What was kept of each, with the run's columns `FROM_RUN`.

    Raises:
        ValueError: the data of a run that is to be sampled are not built here.
    """
    rows = store.runs(family="text", status="finished").to_pylist()
    wanted = [row for row in rows if only is None or row["run_id"] in only]
    for row in sorted(wanted, key=lambda row: row["law_loss"]):
        name = _name(row["run_id"], how)
        found = store.place.read_json(name)
        if found is None:
            try:
                kept_weights(store, row["run_id"])
            except ValueError:  # none were kept
                continue
            trained = load(store, row["run_id"])
            found = _measured(trained.module, trained.manifest, how, processes, progress)
            store.place.write_json(name, found)
        yield {**_of_run(row), **found}


def kept(store: Store) -> list[dict[str, Any]]:
    """All samples that a store holds of finished text runs, one row each, as `score_cells` gives them."""
    rows = {row["run_id"]: row for row in store.runs(family="text", status="finished").to_pylist()}
    found = []
    for name in sorted(store.place.names(FOLDER)):
        row, sample = rows.get(name.rpartition("-")[0]), store.place.read_json(f"{FOLDER}/{name}")
        if row is not None and sample is not None:
            found.append({**_of_run(row), **sample})
    return found


def _of_run(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"run_id": row["run_id"], **{column: row[column] for column in FROM_RUN}}


def _measured(
    module: nn.Module, manifest: Any, how: Sampling, processes: int | None, progress: bool | None
) -> dict[str, Any]:
    blocks = generate_blocks(module, manifest, how.request(), processes=processes)
    smiles = [one.smiles or "" for block in blocks for one in block]
    against = _reference(how.reference, how.training, processes)
    return {
        "reference": how.reference,
        "temperature": how.temperature,
        "sample_seed": how.seed,
        **flat(score(smiles, against, processes=processes, progress=progress)),
        "says": " ".join(against.says),
    }


@functools.lru_cache(maxsize=REFERENCES)
def _reference(name: str, training: str | None, processes: int | None) -> Reference:
    return reference(name, training, processes=processes, progress=False)


def flat(found: Scores) -> dict[str, Any]:
    """Scores as one row; what is measured against a set carries its place: fcd, snn, … and fcd_2, … of a second one."""
    row = {
        "strings": found.strings,
        "validity": found.validity,
        "unique": found.unique,
        "novelty": found.novelty,
        "diversity_1": found.diversity_1,
        "diversity_2": found.diversity_2,
        "filters": found.filters,
        **{f"{name}_distance": value for name, value in found.distances.items()},
    }
    for place, one in enumerate(found.sets, 1):
        end = "" if place == 1 else f"_{place}"
        row |= {f"{name}{end}": getattr(one, name) for name in ("fcd", "snn", "fragments", "scaffolds")}
    return row


def _name(run_id: str, how: Sampling) -> str:
    """The file of a run's sample; files among its reference count by their content."""
    asked = [how.n, float(how.temperature), how.seed, _content(how.reference), how.training and _content(how.training)]
    return f"{FOLDER}/{run_id}-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]}.json"


def _content(name: str) -> str:
    path = Path(name)
    return file_checksum(path) if path.is_file() else name
