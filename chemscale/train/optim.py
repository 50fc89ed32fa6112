"""Optimiser, schedule and learning-rate rules, from a spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from chemscale.models.parametrisation import HIDDEN, Scale, Treatment, treatments
from chemscale.spec import Optim
from chemscale.train.muon import Muon

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
    # The same search with fixed rates, and one seed. Best of 0.02, 0.04, 0.08, 0.16 for NequIP: 0.08 at width 16 with
    # degree 0, 1 and 2 (0.04 is 1 to 5 % worse), 0.04 at widths 8 and 32 (0.08 is 2 to 3 % worse). Its weights are
    # drawn from a unit normal distribution and scaled in the forward pass, so rates are larger than for small weights.
    "nequip": lambda model: 0.05,
    # 0.032 at width 16, the highest tried (0.016 is 6 % worse); 0.016 and 0.064 alike at width 32, 0.004 is 38 % worse.
    "allegro": lambda model: 0.03,
    "spookynet": lambda model: 0.01,  # width 32: 0.016, the highest tried, is 5 % better than 0.004; 0.001 38 % worse
    "dimenet": lambda model: 4e-3,  # width 32: 0.001 is 15 % worse, 0.016 50 %
    "cartesian": lambda model: 4e-3,  # width 32: 0.001 is 25 % worse, 0.016 12 %
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
    return rule(_at_base(model))


def family_lr(model: Any, otherwise: float = 1e-3) -> float:
    """The rate of the family's rule; `otherwise` for a model registered from outside."""
    return ladder_lr(model) if model.architecture in LR_RULES else otherwise


def _at_base(model: Any) -> Any:
    """The shape at which a rate was tuned: the model's own, or the base from which CompleteP carries it."""
    if getattr(model, "parametrisation", "standard") == "standard":
        return model
    return SimpleNamespace(width=model.base_width, depth=model.base_depth)


class Optimisers:
    """The optimisers of one model, one for each kind of parameter, which step together.

    Attributes:
        parts: torch's own, whose states a checkpoint holds.
        factors: for each of their groups, factors on the spec's rate, weight decay and eps (`models.parametrisation`).
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer], factors: Sequence[Scale]) -> None:
        self.parts, self.factors = tuple(parts), tuple(factors)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups of all parts, in the order of `factors`."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate(self, rate: float) -> None:
        """The rate of the next step, before the factors."""
        for group, factor in zip(self.groups, self.factors, strict=True):
            group["lr"] = rate * factor.rate

    def set_constants(self, optim: Optim) -> None:
        """What a spec says beside the rate, which follows the schedule at each step."""
        for group, factor in zip(self.groups, self.factors, strict=True):
            decays = any(p.ndim >= 2 for p in group["params"])
            group["weight_decay"] = optim.weight_decay * factor.decay if decays else 0.0
            if "betas" in group:
                group |= {"betas": (optim.beta1, optim.beta2), "eps": optim.eps * factor.eps}

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        for part in self.parts:
            part.step()


def build_optimiser(model: nn.Module, optim: Optim) -> Optimisers:
    """AdamW, or Muon for the matrices within the model and AdamW for the rest (Jordan et al. 2024).

    Weight decay acts on matrices only, as is usual (Loshchilov & Hutter 2019; Brown et al. 2020). Muon's steps have the
    root mean square of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one rate serves both.
    """
    assert optim.lr is not None
    found = treatments(model)
    by_muon = [optim.name == "muon" and one.role == HIDDEN and one.parameter.ndim == 2 for one in found]
    rest = _grouped(one for one, muon in zip(found, by_muon, strict=True) if not muon)
    hidden = _grouped(one for one, muon in zip(found, by_muon, strict=True) if muon)
    parts: list[torch.optim.Optimizer] = []
    if rest:  # fused: one kernel, 2.5 ms less a step than the loop over parameters, a quarter of a small one's
        parts.append(torch.optim.AdamW([{"params": members} for members in rest.values()], lr=optim.lr, fused=True))
    if hidden:
        parts.append(Muon([{"params": members} for members in hidden.values()], lr=optim.lr))
    made = Optimisers(parts, [scale for _, scale in (*rest, *hidden)])
    made.set_constants(optim)
    return made


def _grouped(found: Iterable[Treatment]) -> dict[tuple[bool, Scale], list[nn.Parameter]]:
    """Parameters that are treated alike: matrices, which decay, before vectors."""
    groups: dict[tuple[bool, Scale], list[nn.Parameter]] = {}
    for one in sorted(found, key=lambda one: one.parameter.ndim < 2):
        groups.setdefault((one.parameter.ndim < 2, one.scale), []).append(one.parameter)
    return groups


def lr_share(step: int, updates: int, optim: Optim, epoch: int = 0) -> float:
    """Share of the highest rate at update `step` (0-based) of `updates`, in epoch `epoch`: warm-up, constant, cooldown.

    The cooldown falls to zero just after the last update, linearly or as 1 - sqrt (Hägele et al. 2024).
    """
    warm = math.ceil(optim.warmup * updates) if optim.warmup_updates is None else optim.warmup_updates
    cool = math.ceil(optim.cooldown * updates)
    if step < warm:
        return (step + 1) / warm
    grown = 1.0 if optim.epoch_warmup is None else min(1.0, epoch / optim.epoch_warmup)
    left = updates - step  # updates still to make, this one included
    if left > cool:
        return grown
    done = 1 - left / (cool + 1)
    return grown * (1 - (math.sqrt(done) if optim.shape == "sqrt" else done))
