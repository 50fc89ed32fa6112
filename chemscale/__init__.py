"""chemscale: what ten times more parameters, data or compute buy for deep models of chemistry.

Public names load on first use: `import chemscale` loads neither torch nor ray.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ASHA": "chemscale.sweep.stop",
    "Allegro": "chemscale.models",
    "Budget": "chemscale.spec",
    "ChemGPT": "chemscale.models",
    "Comparison": "chemscale.laws",
    "Data": "chemscale.spec",
    "EnergyForce": "chemscale.train.objectives",
    "EnergyOnly": "chemscale.train.objectives",
    "EnergyForceTurned": "chemscale.train.symmetry",
    "Evaluation": "chemscale.spec",
    "Forecast": "chemscale.sweep.stop",
    "Grid": "chemscale.sweep.grid",
    "Halving": "chemscale.sweep.stop",
    "HyperBand": "chemscale.sweep.stop",
    "InitFrom": "chemscale.spec",
    "Job": "chemscale.sweep.jobs",
    "Law": "chemscale.laws",
    "Median": "chemscale.sweep.stop",
    "NequIP": "chemscale.models",
    "NextToken": "chemscale.train.objectives",
    "Optim": "chemscale.spec",
    "PBT": "chemscale.sweep.stop",
    "PaiNN": "chemscale.models",
    "Reading": "chemscale.spec",
    "Resources": "chemscale.spec",
    "RunSpec": "chemscale.spec",
    "Sampling": "chemscale.use.quality.cells",
    "SchNet": "chemscale.models",
    "Search": "chemscale.sweep.search",
    "SpookyNet": "chemscale.models",
    "Store": "chemscale.records",
    "Study": "chemscale.sweep.grid",
    "audit": "chemscale.audit.audit",
    "calculator": "chemscale.use.calculator",
    "choice": "chemscale.sweep.space",
    "compare": "chemscale.laws",
    "complete": "chemscale.train.complete",
    "critical_batch": "chemscale.sweep.critical",
    "explore": "chemscale.explore",
    "fit": "chemscale.laws",
    "integers": "chemscale.sweep.space",
    "logintegers": "chemscale.sweep.space",
    "loguniform": "chemscale.sweep.space",
    "plan": "chemscale.plan",
    "register_model": "chemscale.spec",
    "register_objective": "chemscale.spec",
    "report": "chemscale.report.page",
    "run_study": "chemscale.sweep.study",
    "search": "chemscale.sweep.searching",
    "submit": "chemscale.sweep.jobs",
    "sweep": "chemscale.sweep.drive",
    "trainable": "chemscale.sweep.trainable",
    "transfer": "chemscale.sweep.transfer",
    "tuner": "chemscale.sweep.drive",
    "uniform": "chemscale.sweep.space",
    "when": "chemscale.sweep.space",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'chemscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
