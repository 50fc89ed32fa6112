"""Many runs: grids and searches (pure values), and Ray Tune that carries them out."""

from chemscale.rooms import answer_calls
from chemscale.sweep.grid import Grid, Study
from chemscale.sweep.search import ASHA, Choice, LogUniform, Search, Uniform, choice, loguniform, uniform

__all__ = ["ASHA", "Choice", "Grid", "LogUniform", "Search", "Study", "Uniform", "choice", "loguniform", "uniform"]

answer_calls(__name__, "chemscale.sweep.drive:sweep")
