"""How often intervals held the truth: the record of a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Coverage:
    """How often one method's interval of one quantity held the truth.

    standard_error: of `coverage`, from the number of tables; below, above: shares of intervals that lay wholly below or
    above the truth; width: median width of the interval (of the log, for amplitudes and losses).
    """

    quantity: str
    method: str
    coverage: float
    standard_error: float
    below: float
    above: float
    width: float


@dataclass(frozen=True)
class Calibration:
    """Coverage of every method for every quantity, over `count` simulated tables at `level`.

    truth: the published parameters that were planted; simulated: one sentence that says what the tables were.
    """

    count: int
    level: float
    noise: str
    truth: dict[str, float]
    rows: tuple[Coverage, ...]
    simulated: str

    def of(self, quantity: str, method: str) -> Coverage:
        """One entry; KeyError where it was not simulated."""
        for row in self.rows:
            if (row.quantity, row.method) == (quantity, method):
                return row
        raise KeyError(f"{quantity!r} by {method!r} was not simulated")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**self.__dict__, "rows": [dict(row.__dict__) for row in self.rows]}

    def table(self) -> str:
        """What was simulated, then coverage in percent with its standard error: quantities down, methods across."""
        methods = list(dict.fromkeys(row.method for row in self.rows))
        quantities = list(dict.fromkeys(row.quantity for row in self.rows))
        first = max(len(name) for name in (*quantities, "quantity"))
        lines = [f"{'quantity':<{first}}  " + "  ".join(f"{m:>12}" for m in methods)]
        for name in quantities:
            cells = [self.of(name, m) for m in methods]
            shown = "  ".join(f"{100 * c.coverage:>5.1f} ± {100 * c.standard_error:<4.1f}" for c in cells)
            lines.append(f"{name:<{first}}  {shown}")
        return "\n".join([f"simulated: {self.simulated}", *lines])
