"""Many runs: grids and searches (pure values), and Ray Tune that carries them out."""

from chemscale.rooms import answer_calls
from chemscale.sweep.grid import Grid, Study
from chemscale.sweep.search import Search
from chemscale.sweep.space import choice, integers, logintegers, loguniform, uniform, when
from chemscale.sweep.stop import ASHA, PBT, Forecast, Halving, HyperBand, Median

__all__ = [
    "ASHA", "PBT", "Forecast", "Grid", "Halving", "HyperBand", "Median", "Search", "Study",
    "choice", "integers", "logintegers", "loguniform", "uniform", "when",
]  # fmt: skip

answer_calls(__name__, "chemscale.sweep.drive:sweep")
