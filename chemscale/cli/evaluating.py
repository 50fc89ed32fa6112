"""Evaluate: molecules of a file and text runs of a store by the metrics of MOSES, potentials by their errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemscale.cli.options import refuse_unused
from chemscale.cli.output import print_json, print_rows, writable

if TYPE_CHECKING:
    from chemscale.records.store import Store

OF_TEXT = ("reference", "training", "first", "processes")  # options of `evaluate` that potentials have no use for
OF_POTENTIALS = (
    "run", "subset", "groups", "energy_key", "forces_key", "labels", "units", "precision", "bootstrap", "level",
)  # fmt: skip
QUALITY = ("validity", "unique", "novelty", "fcd", "snn", "scaffolds")  # metrics of a run that a table shows


def evaluate(given: argparse.Namespace) -> None:
    """The metrics of MOSES for generated molecules or a store's text runs; a potential's errors on structures.

    The strings of a file are taken in the order in which they were sampled. A store keeps what was measured of each run
    beside its loss, and a run that was measured so before is not sampled again; --out writes the table. With a file of
    labelled structures behind a store or an exported potential: errors of energies and forces with intervals, in all
    and per subset; --out FILE.html draws parity plots, FILE.csv or .parquet holds every structure, FILE.json all
    numbers.
    """
    if given.structures is not None:
        from chemscale.cli.potentials import evaluate as evaluate_potential

        refuse_unused(given, OF_TEXT, "says nothing about structures; leave it out")
        return evaluate_potential(given)
    from chemscale.data.formats import STRUCTURE_SUFFIXES
    from chemscale.data.readers import read_strings
    from chemscale.train.exported import is_exported
    from chemscale.use.device import require_device
    from chemscale.use.find import is_store
    from chemscale.use.quality.reference import reference
    from chemscale.use.quality.score import PROTOCOL, score

    writable(given.out)
    path = Path(given.file)
    if is_store(given.file):
        return _evaluate_store(given)
    if is_exported(path):
        raise ValueError(f"{given.file!r} is an exported potential; {_structures_for(given.file)}.")
    if not path.is_file():
        raise ValueError(f"{given.file!r} is neither a store nor a file that `chemscale generate` wrote.")
    if path.name.lower().endswith(STRUCTURE_SUFFIXES):
        raise ValueError(f"{given.file!r} holds structures; {_potential_for(given.file)}.")
    refuse_unused(given, OF_POTENTIALS, f"says nothing about molecules; {_potential_for(given.file)}")
    strings = read_strings(path)
    smiles = [text for _, text in islice(strings, given.first or PROTOCOL)]
    more = given.first is None and next(strings, None) is not None
    if not smiles:
        raise ValueError(f"{given.file!r} holds no record; there is nothing to evaluate.")
    _require_ending(given.out, (".json",), "molecules")
    require_device(given.device)
    against = reference(given.reference, given.training, processes=given.processes)
    found = score(smiles, against, processes=given.processes, device=given.device)
    record = {"file": given.file, "reference": against.name, **asdict(found), "says": list(against.says)}
    if more:
        record["says"] += [
            f"The file holds more than these first {PROTOCOL:,} strings, MOSES' number; --first takes any."
        ]
    if given.out:
        from chemscale.cli.output import json_text
        from chemscale.records.place import LocalPlace

        text = json_text(record).encode()
        LocalPlace(".").write(given.out, lambda file: file.write(text))
    if given.json:
        return print_json(record)
    print(*_lines(record), sep="\n")
    return None


def _evaluate_store(given: argparse.Namespace) -> None:
    import chemscale.models  # noqa: F401  # registers the models
    from chemscale.records.store import Store
    from chemscale.use.parts import write_whole, writer_of
    from chemscale.use.quality.cells import Sampling, score_cells

    store = Store(given.file)
    _require_text_runs(store)
    refuse_unused(given, OF_POTENTIALS, "says nothing about text runs; leave it out")
    refuse_unused(given, ("device",), "says nothing of a store, whose runs are sampled on the processor; leave it out")
    _require_ending(given.out, (".csv", ".parquet"), "a store")
    how = Sampling(given.first or Sampling.n, reference=given.reference, training=given.training)
    how.require()
    write = writer_of(given.out) if given.out else None
    rows = []
    for row in score_cells(store, how, processes=given.processes):
        rows.append(row)
        print(f"{row['run_id']}: loss {row['law_loss']:.4f}, FCD {_number(row['fcd'])}", file=sys.stderr)
    if not rows:
        raise ValueError(f"{given.file!r} has no finished text run with weights; train one first.")
    if write is not None:
        import pyarrow as pa

        write_whole(write, iter([pa.Table.from_pylist(rows)]), given.out)
    if given.json:
        return print_json(rows)
    shown = ("run_id", "params", "molecules", "law_loss", *QUALITY)
    print_rows([{name: row[name] for name in shown} for row in rows], False)
    told = ", ".join(f"{name} {_ranks(rows, name)}" for name in QUALITY)
    print(f"rank correlation with the loss over {len(rows)} runs (95 % interval): {told}")
    print(*dict.fromkeys(row["says"] for row in rows if row["says"]), sep="\n")
    return None


def _require_ending(out: str | None, known: Sequence[str], of: str) -> None:
    if out is not None and Path(out).suffix.lower() not in known:
        raise ValueError(f"--out {out!r} ends in {Path(out).suffix!r}; for {of} use {' or '.join(known)}.")


def _require_text_runs(store: Store) -> None:
    if len(store.runs(columns=["run_id"], family="text", status="finished")):
        return
    potentials = len(store.runs(columns=["run_id"], family="structures", status="finished"))
    raise ValueError(
        f"{store.url} has no finished text run; {_structures_for(store.url) if potentials else 'train one first'}."
    )


def _structures_for(potential: str) -> str:
    return f"give a file of labelled structures to measure potentials on: chemscale evaluate {potential} FILE"


def _potential_for(structures: str) -> str:
    return f"name the potential to measure on structures first: chemscale evaluate STORE {structures}"


def _ranks(rows: Sequence[dict[str, Any]], metric: str) -> str:
    from chemscale.use.quality.ranks import ranks

    found = ranks(rows, metric)
    if found is None:
        return "—"
    return f"{found.value:.2f}" + (f" ({found.low:.2f} to {found.high:.2f})" if found.low is not None else "")


def _lines(record: dict[str, Any]) -> list[str]:
    """A line for each metric, with a column for each set of the reference."""
    sets = record["sets"]
    whole = [
        ("strings", record["strings"]),
        ("molecules", record["molecules"]),
        ("validity", record["validity"]),
        *((f"unique@{k}", value) for k, value in record["unique_at"].items()),
        ("unique", record["unique"]),
        ("novelty", record["novelty"]),
        ("IntDiv1", record["diversity_1"]),
        ("IntDiv2", record["diversity_2"]),
        ("filters", record["filters"]),
        *((f"{name} distance", value) for name, value in record["distances"].items()),
    ]
    head = "".join(f"{s['name']:>16}" for s in sets)
    named = [("molecules", "molecules"), ("FCD", "fcd"), ("SNN", "snn"), ("Frag", "fragments"), ("Scaf", "scaffolds")]
    return [
        *(f"{name:<16}{_number(value):>16}" for name, value in whole),
        f"{'against':<16}{head}",
        *(f"{name:<16}" + "".join(f"{_number(s[key]):>16}" for s in sets) for name, key in named),
        *record["says"],
    ]


def _number(value: float | int | None) -> str:
    return "—" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
