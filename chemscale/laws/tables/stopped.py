"""Rows of runs that a budget stopped: a bound of their final loss, or a forecast of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from chemscale.laws.objectives import Array
from chemscale.laws.tables.columns import Columns, column, flags, number

FORECAST = ("forecast_loss", "forecast_low", "forecast_high")  # of the end of a stopped run, with a 95 % interval
TWO_SIDED = 2 * 1.96


class Stopped(NamedTuple):
    """Columns with forecasts in place of losses; which losses are bounds, (n,); deviations of forecasts, (n,)."""

    columns: Columns
    bounds: np.ndarray | None
    imputed: Array | None
    notes: tuple[str, ...]


def stopped(columns: Columns, loss: str, censored: str | None) -> Stopped:
    """Of the rows that the column `censored` marks, those with a forecast enter as that, the others' losses as bounds.

    Raises ValueError where the column is missing, is not of true and false, or marks every row.
    """
    if censored is None:
        return Stopped(columns, None, None, ())
    marked = flags(columns, censored)
    if marked.all():
        raise ValueError(f"censored={censored!r} marks every row; a law needs runs that finished.")
    values, spread = list(column(columns, loss, "loss")), np.zeros(len(marked))
    for i in np.flatnonzero(marked):
        middle, low, high = (number(columns[name][i]) if name in columns else None for name in FORECAST)
        if middle and low and high and 0 < low <= middle <= high:
            bound = number(values[i])
            values[i] = min(middle, bound) if bound else middle
            spread[i] = max(np.log(high / low) / TWO_SIDED, 1e-9)
    bounds, imputed, notes = marked & (spread == 0), spread > 0, []
    if bounds.any():
        notes.append(f"{int(bounds.sum())} losses are upper bounds of runs that were stopped: one-sided in the fit")
    if imputed.any():
        notes.append(f"{int(imputed.sum())} stopped runs enter by the forecast of their end, with its uncertainty")
    return Stopped(
        {**columns, loss: values}, bounds if bounds.any() else None, spread if imputed.any() else None, tuple(notes)
    )
