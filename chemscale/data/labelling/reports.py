"""What labelling gives back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LabelReport:
    """What was made: the file, the list of what was left out, the metadata, and how long it took."""

    out: Path
    rejected: Path
    metadata: dict[str, Any]
    seconds: float
