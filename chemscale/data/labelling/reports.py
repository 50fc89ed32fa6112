"""What labelling gives back, and the list of what it left out."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chemscale.data.labelling.fragments import Reject


@dataclass(frozen=True)
class LabelReport:
    """What was made: the file, the list of what was left out, the metadata, and how long it took."""

    out: Path
    rejected: Path
    metadata: dict[str, Any]
    seconds: float


def listing_of(out: Path) -> Path:
    """Where the list of what a file leaves out stands."""
    return out.with_name(out.name + ".rejected.csv")


def listed(rejects: Iterable[Reject]) -> str:
    """The list as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["line", "smiles", "reason", "detail"])
    table.writerows([r.line, r.smiles, r.reason, r.detail] for r in rejects)
    return text.getvalue()
