"""Tables in, laws out: numpy and scipy only.
`fit` gives a `Law` with intervals, predictions and a backtest; `axis_reading`, `tenfold` and `verdict` say what a small
grid supports before any law is believed; `compare` fits the same law to several groups and tests what differs.
"""

from __future__ import annotations

from chemscale.laws.backtests.backtest import Backtest
from chemscale.laws.backtests.breaks import Break, find_breaks
from chemscale.laws.backtests.ensemble import Ensemble
from chemscale.laws.comparison.compare import Comparison, compare
from chemscale.laws.comparison.contrast import Difference, Multiplier, Ratio
from chemscale.laws.comparison.jointlaw import JointLaw
from chemscale.laws.comparison.paired import Paired
from chemscale.laws.doubt.coverage import Calibration
from chemscale.laws.doubt.intervals import INTERVALS, Profile
from chemscale.laws.doubt.seeds import SeedNoise
from chemscale.laws.errors import FitError, PartialFitError
from chemscale.laws.fit import fit
from chemscale.laws.forms import FORMS
from chemscale.laws.law import Law
from chemscale.laws.objectives import OBJECTIVES, Objective
from chemscale.laws.optimum import Optimum
from chemscale.laws.prediction import Prediction
from chemscale.laws.readings.slopes import AxisReading, Tenfold, axis_reading, tenfold
from chemscale.laws.readings.verdict import NextRun, Verdict, verdict
from chemscale.laws.record import failure
from chemscale.laws.tables.cost import MeasuredCost

__all__ = [
    "FORMS", "INTERVALS", "OBJECTIVES", "AxisReading", "Backtest", "Break", "Calibration", "Comparison", "Difference",
    "Ensemble", "FitError", "JointLaw", "Law", "MeasuredCost", "Multiplier", "NextRun", "Objective", "Optimum",
    "Paired", "PartialFitError", "Prediction", "Profile", "Ratio", "SeedNoise", "Tenfold", "Verdict", "axis_reading",
    "compare", "failure", "find_breaks", "fit", "tenfold", "verdict",
]  # fmt: skip
