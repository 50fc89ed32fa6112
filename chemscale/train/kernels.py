"""Training by a library's kernels (`models.kernels`), which changes no parameter and no number beyond rounding.

Kernels are other people's programs for a device that tests rarely see. So the first batch is also computed plainly, and
where energies, forces or the parameters' gradients differ the run goes on plainly and says so.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from chemscale.batch import AtomicBatch
from chemscale.models.kernels import KERNELS_OF
from chemscale.models.potential import AtomicPrediction
from chemscale.train.compiled import difference
from chemscale.train.compiled_blocks import reason

NEEDED = ("cuequivariance", "cuequivariance_torch", "cuequivariance_ops_torch")  # without the last it is plain torch
MISSING = (
    "Resources.kernels='cuequivariance' needs {what}; install it by pip install 'chemscale[cuequivariance-cu13]' (or "
    "-cu12, as torch's CUDA is), or set kernels='plain'."
)


def why_not(device: torch.device) -> str | None:
    """Why kernels cannot run here, as a sentence; None where they can."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        return MISSING.format(what=f"the package {absent[0].replace('_', '-')}")
    if device.type not in KERNELS_OF or torch.version.cuda is None:
        return f"Resources.kernels='cuequivariance' runs on NVIDIA's GPUs, not on {device}; set kernels='plain'."
    return None


def use_kernels(module: nn.Module, device: torch.device, method: str | None = None) -> None:
    """Let every product of irreps in the module run by kernels.

    Args:
        method: how the library computes; None is its kernels for the device.

    Raises:
        ValueError: the module has no such product, or kernels cannot run here.
    """
    parts = [part for part in module.modules() if hasattr(part, "with_kernel")]
    if not parts:
        raise ValueError(
            f"Resources.kernels='cuequivariance' multiplies irreps, and {type(module).__name__} has none; "
            "set kernels='plain'."
        )
    if method is None and (reason := why_not(device)):
        raise ValueError(reason)
    module.forward = KernelForward(module, parts, method or KERNELS_OF[device.type])  # type: ignore[method-assign]


class KernelForward:
    """A potential's forward by kernels, held against the plain one at its first batch with gradients.

    Attributes:
        differs: why the model goes on without kernels; None where it does not.
    """

    def __init__(self, potential: nn.Module, parts: list[Any], method: str) -> None:
        self.potential, self.plain = potential, potential.forward
        self.parts = parts
        self.kernels = [part.with_kernel(method) for part in parts]
        self.differs: str | None = None
        self._held = False  # against the plain model

    def __call__(self, batch: AtomicBatch) -> AtomicPrediction:
        if not self._held and torch.is_grad_enabled() and batch.pairs.numel():
            self._hold(batch)
        return self.plain(batch)

    def _hold(self, batch: AtomicBatch) -> None:
        expected = self.plain(batch)
        self._set(self.kernels)
        try:
            self.differs = difference(expected, self.plain(batch), self.potential)
        except Exception as error:  # whatever a library's kernel may raise: the run goes on without it
            self.differs = reason(error)
        self._held = True
        if self.differs:
            self._set([None] * len(self.parts))
            warnings.warn(
                f"Resources.kernels='cuequivariance' is given up for this {type(self.potential).__name__}, which "
                f"trains plainly: {self.differs}.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _set(self, kernels: list[Any]) -> None:
        for part, kernel in zip(self.parts, kernels, strict=True):
            part.kernel = kernel
