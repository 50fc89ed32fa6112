"""chemscale: what ten times more parameters, data or compute buy for deep models of chemistry.

Public names load on first use: `import chemscale` loads neither torch nor ray.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ASHA": "chemscale.sweep.search",
    "Budget": "chemscale.spec",
    "ChemGPT": "chemscale.models",
    "Data": "chemscale.spec",
    "EnergyForce": "chemscale.train.objectives",
    "Evaluation": "chemscale.spec",
    "Grid": "chemscale.sweep.grid",
    "Job": "chemscale.sweep.jobs",
    "Law": "chemscale.laws",
    "NextToken": "chemscale.train.objectives",
    "Optim": "chemscale.spec",
    "PaiNN": "chemscale.models",
    "Resources": "chemscale.spec",
    "RunSpec": "chemscale.spec",
    "SchNet": "chemscale.models",
    "Search": "chemscale.sweep.search",
    "Store": "chemscale.records",
    "Study": "chemscale.sweep.grid",
    "choice": "chemscale.sweep.search",
    "complete": "chemscale.train.complete",
    "fit": "chemscale.laws",
    "loguniform": "chemscale.sweep.search",
    "plan": "chemscale.plan",
    "register_model": "chemscale.spec",
    "register_objective": "chemscale.spec",
    "report": "chemscale.report.page",
    "run_study": "chemscale.explore",
    "search": "chemscale.sweep.searching",
    "submit": "chemscale.sweep.jobs",
    "sweep": "chemscale.sweep.drive",
    "trainable": "chemscale.sweep.trainable",
    "tuner": "chemscale.sweep.drive",
    "uniform": "chemscale.sweep.search",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'chemscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
