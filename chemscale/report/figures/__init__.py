"""Values in, figures out: vector drawings with the data that they show.

Losses are in display units (see `values`). matplotlib is imported when something is drawn.
"""

from chemscale.report.figures.base import Figure
from chemscale.report.figures.learning import learning
from chemscale.report.figures.parity import parity
from chemscale.report.figures.scaling import scaling

__all__ = ["Figure", "learning", "parity", "scaling"]
