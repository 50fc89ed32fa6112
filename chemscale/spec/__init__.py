"""What a run is: frozen values, and an id that is the hash of all that can change a number.

A run names its model, its data, its optimiser, its budget, how it is evaluated, its seed and its precision. What cannot
change a number beyond rounding (workers, devices, threads, micro-batches, paths) is `Resources`, outside the hash.
"""

from __future__ import annotations

from chemscale.spec.examples import DUPLICATES, FORMS, NOTATIONS, ORDERS, REPRESENTATIONS, Data, InitFrom, Reading
from chemscale.spec.plain import added_since
from chemscale.spec.portions import Portion
from chemscale.spec.reading import from_json, with_fields
from chemscale.spec.registry import MODELS, OBJECTIVES, ModelConfig, register_model, register_objective
from chemscale.spec.resources import ACTIVATIONS, COMPILE, KEEP, LAYOUTS, SHARDING, Resources
from chemscale.spec.run import FULL_PRECISIONS, ID_LENGTH, PRECISIONS, SPEC_VERSION, RunSpec
from chemscale.spec.training import CHANGING, COOLDOWNS, OPTIMISERS, Budget, Evaluation, Optim

__all__ = [
    "ACTIVATIONS",
    "CHANGING",
    "COMPILE",
    "COOLDOWNS",
    "DUPLICATES",
    "FORMS",
    "FULL_PRECISIONS",
    "ID_LENGTH",
    "KEEP",
    "LAYOUTS",
    "MODELS",
    "NOTATIONS",
    "OBJECTIVES",
    "OPTIMISERS",
    "ORDERS",
    "PRECISIONS",
    "REPRESENTATIONS",
    "SHARDING",
    "SPEC_VERSION",
    "Budget",
    "Data",
    "Evaluation",
    "InitFrom",
    "ModelConfig",
    "Optim",
    "Portion",
    "Reading",
    "Resources",
    "RunSpec",
    "added_since",
    "from_json",
    "register_model",
    "register_objective",
    "with_fields",
]
