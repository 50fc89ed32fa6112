"""The samples of every finished text run of a study, measured and kept beside its loss.

One JSON file for each run and request, `samples/RUN-REQUEST.json` in the store; a run that has its file is not sampled
again. What is measured changes no run and no id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chemscale.records.store import Store
from chemscale.use.generate import Request, generate_blocks
from chemscale.use.load import load
from chemscale.use.quality.reference import Reference
from chemscale.use.quality.score import Scores, score

FROM_RUN = ("architecture", "params", "molecules", "tokens", "flops", "seed", "law_loss", "law_metric")


@dataclass(frozen=True)
class Sampling:
    """How every cell is sampled: strings, temperature and seed. FCD depends on the number of strings: keep to one."""

    n: int = 3000
    temperature: float = 1.0
    seed: int = 0


def score_cells(
    store: Store, how: Sampling, against: Reference, *, processes: int | None = None, progress: bool | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of all finished text runs, the missing ones measured and kept first; those without weights are left out."""
    rows = store.runs(family="text", status="finished").to_pylist()
    for row in sorted(rows, key=lambda row: row["law_loss"]):
        name = f"samples/{row['run_id']}-{_request(how, against)}.json"
        found = store.place.read_json(name)
        if found is None:
            found = _measured(store, row["run_id"], how, against, processes, progress)
            if found is None:
                continue
            store.place.write_json(name, found)
        yield {"run_id": row["run_id"], **{column: row[column] for column in FROM_RUN}, **found}


def _measured(
    store: Store, run_id: str, how: Sampling, against: Reference, processes: int | None, progress: bool | None
) -> dict[str, Any] | None:
    try:
        trained = load(store, run_id)
    except ValueError:  # its weights were not kept
        return None
    request = Request(how.n, how.temperature, seed=how.seed)
    blocks = generate_blocks(trained.module, trained.manifest, request, processes=processes)
    smiles = [one.smiles or "" for block in blocks for one in block]
    return {
        "reference": against.name,
        "temperature": how.temperature,
        "sample_seed": how.seed,
        **flat(score(smiles, against, processes=processes, progress=progress)),
    }


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


def _request(how: Sampling, against: Reference) -> str:
    asked = [how.n, float(how.temperature), how.seed, against.name, *(one.molecules for one in against.sets)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]


def ranks(rows: list[dict[str, Any]], metric: str) -> float | None:
    """Spearman's correlation of the loss with a metric over cells; None of fewer than three or constant ones."""
    from scipy.stats import rankdata

    pairs = [(row["law_loss"], row[metric]) for row in rows if row[metric] is not None]
    if len(pairs) < 3:
        return None
    a, b = (rankdata(side) for side in zip(*pairs, strict=True))
    a, b = a - a.mean(), b - b.mean()
    spread = float((a @ a) * (b @ b))
    return float(a @ b) / spread**0.5 if spread else None
