"""Optimiser, schedule and learning-rate rules, from a spec."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from chemscale.spec import Optim

LR_RULES: dict[str, Callable[[Any], float]] = {
    # AdamW on ladders of four layers: the best rate falls as one over the width, as muP predicts for hidden matrices
    # (Yang et al. 2022), and saturates for the narrowest. tune_jobs/chemgpt_lr.py on 5,000 molecules: best of eight
    # 0.018 at width 16 (0.015 within 1.1 % of its loss), 0.0033 at width 64 (flat from 0.0033 to 0.0045).
    "chemgpt": lambda model: min(0.02, 0.24 / model.width),
    # tune_jobs/potentials_lr.py on 1,132 structures, best of eight: SchNet 0.009 at width 16 (the highest tried) and
    # 0.008 at width 64, where 0.011 is 11 % worse and 0.018 does not train; the rule keeps away from that edge.
    "schnet": lambda model: min(0.01, 0.4 / model.width),
    # The same search: PaiNN 0.009 at width 16 (the highest tried), 0.0115 at width 32 (0.008 within 3 % of its error).
    "painn": lambda model: 8e-3,
}


def ladder_lr(model: Any) -> float:
    """The learning rate that the stated rule of a model's family gives.

    Raises:
        ValueError: the model, registered from outside, has no rule; set `Optim.lr`.
    """
    rule = LR_RULES.get(model.architecture)
    if rule is None:
        ruled = ", ".join(sorted(LR_RULES))
        raise ValueError(
            f"Optim.lr is open and {model.architecture!r} has no rule for it ({ruled} have); set Optim.lr."
        )
    return rule(model)


def build_optimiser(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, as is usual (Loshchilov & Hutter 2019; Brown et al. 2020)."""
    assert optim.lr is not None
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=optim.lr,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        fused=True,  # one kernel: 2.5 ms less a step than the loop over parameters, a quarter of a small one's
    )


def apply(optim: Optim, optimiser: torch.optim.Optimizer) -> None:
    """Set what a spec says of an optimiser that `build_optimiser` made; the rate follows the schedule at each step."""
    for group in optimiser.param_groups:
        decays = any(p.ndim >= 2 for p in group["params"])
        group |= {
            "betas": (optim.beta1, optim.beta2),
            "eps": optim.eps,
            "weight_decay": optim.weight_decay if decays else 0.0,
        }


def lr_share(step: int, updates: int, optim: Optim, epoch: int = 0) -> float:
    """Share of the highest rate at update `step` (0-based) of `updates`, in epoch `epoch`: warm-up, constant, cooldown.

    The cooldown falls to zero just after the last update, linearly or as 1 - sqrt (Hägele et al. 2024).
    """
    warm = 0 if optim.epoch_warmup is not None else math.ceil(optim.warmup * updates)
    cool = math.ceil(optim.cooldown * updates)
    if step < warm:
        return (step + 1) / warm
    grown = 1.0 if optim.epoch_warmup is None else min(1.0, epoch / optim.epoch_warmup)
    left = updates - step  # updates still to make, this one included
    if left > cool:
        return grown
    done = 1 - left / (cool + 1)
    return grown * (1 - (math.sqrt(done) if optim.shape == "sqrt" else done))
