"""How initial sizes, rates and residual branches change with width and depth, so that the best rate stays where it is.

CompleteP (Dey et al. 2025, arXiv 2505.01618, table 1, alpha = 1) is the maximal update parametrisation (Yang et al.
2022) with depth: relative to a base shape, with m = width / base width and d = depth / base depth,

    matrices within the blocks   initial variance / m, rate / m, weight decay * m, AdamW's eps / (m d)
    token and position tables    as at the base, eps / m
    gains and biases             as at the base, eps / (m d) within the blocks, / m outside
    residual branches            / d
    logits                       / m
    attention logits             / head width instead of its root

At the base shape it is the standard parametrisation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

PARAMETRISATIONS = ("standard", "completep")
INPUT, HIDDEN, OUTPUT, VECTOR = "input", "hidden", "output", "vector"


@dataclass(frozen=True)
class Scale:
    """Factors on a spec's rate, weight decay and AdamW's eps for one kind of parameter."""

    rate: float = 1.0
    decay: float = 1.0
    eps: float = 1.0


@dataclass(frozen=True)
class Scaling:
    """CompleteP at `width` and `depth` times the base shape; at 1 and 1, the standard parametrisation."""

    width: float = 1.0
    depth: float = 1.0

    @property
    def branch(self) -> float:
        """Factor on what each residual branch adds to the stream."""
        return 1 / self.depth

    @property
    def logits(self) -> float:
        """Factor on the logits."""
        return 1 / self.width

    def of(self, role: str, *, within: bool) -> Scale:
        """What the optimiser does to a parameter of this role, `within` a residual block or outside of them."""
        eps = 1 / (self.width * (self.depth if within else 1.0))
        return Scale(1 / self.width, self.width, eps) if role == HIDDEN else Scale(eps=eps)


@dataclass(frozen=True)
class Treatment:
    """One parameter, its role and its scale."""

    parameter: nn.Parameter
    role: str
    scale: Scale


def treatments(model: nn.Module) -> tuple[Treatment, ...]:
    """The role and scale of every trainable parameter of a model.

    A model that scales with its shape carries `scaling` and names its residual blocks by a method `blocks()`; all
    others are standard. Embedding tables are "input"; matrices within the blocks are "hidden", or all of them where no
    blocks are named; those outside are "output"; all else are "vector".
    """
    scaling = getattr(model, "scaling", Scaling())
    blocks: Iterable[nn.Module] = getattr(model, "blocks", list)()
    within = {id(p) for block in blocks for p in block.parameters()}
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}

    def treated(parameter: nn.Parameter) -> Treatment:
        inside = id(parameter) in within or not within
        if id(parameter) in tables:
            role = INPUT
        elif parameter.ndim < 2:
            role = VECTOR
        else:
            role = HIDDEN if inside else OUTPUT
        return Treatment(parameter, role, scaling.of(role, within=inside))

    return tuple(treated(p) for p in model.parameters() if p.requires_grad)
