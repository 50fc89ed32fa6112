"""Values in, figures out: vector drawings with the data that they show.

Losses are in display units (see `values`). matplotlib is imported when something is drawn.
"""

from chemscale.report.figures.base import Figure
from chemscale.report.figures.compared import costs, differences, paired
from chemscale.report.figures.frontier import best_sizes, frontier
from chemscale.report.figures.law import law
from chemscale.report.figures.learning import learning
from chemscale.report.figures.misses import backtest, residuals
from chemscale.report.figures.parity import parities, parity
from chemscale.report.figures.quality import quality
from chemscale.report.figures.scaling import scaling
from chemscale.report.figures.searched import importance, slices, stops

__all__ = [
    "Figure",
    "backtest",
    "best_sizes",
    "costs",
    "differences",
    "frontier",
    "importance",
    "law",
    "learning",
    "paired",
    "parities",
    "parity",
    "quality",
    "residuals",
    "scaling",
    "slices",
    "stops",
]
