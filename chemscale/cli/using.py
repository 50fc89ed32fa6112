"""What trained models are good for: evaluate."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chemscale.cli.output import print_json, writable


def evaluate(given: argparse.Namespace) -> None:
    """The metrics of MOSES for a file of generated molecules, in the order in which they were sampled."""
    from chemscale.data.readers import read_strings
    from chemscale.use.quality.reference import reference
    from chemscale.use.quality.score import score

    writable(given.out)
    path = Path(given.file)
    if not path.is_file():
        raise ValueError(f"{given.file!r} is no file on this machine; give the file that `chemscale generate` wrote.")
    smiles = [text for _, text in read_strings(path)][: given.first]
    against = reference(given.reference, given.training, processes=given.processes)
    found = score(smiles, against, processes=given.processes, device=given.device)
    record = {"file": given.file, "reference": against.name, **asdict(found), "says": list(against.says)}
    if given.out:
        from chemscale.cli.output import json_text
        from chemscale.records.place import LocalPlace

        text = json_text(record).encode()
        LocalPlace(".").write(given.out, lambda file: file.write(text))
    if given.json:
        return print_json(record)
    print(*_lines(record), sep="\n")
    return None


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
