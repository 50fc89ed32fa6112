"""Where a model answers: a device of torch that this machine has."""

from __future__ import annotations


def require_device(device: str) -> None:
    """Make sure that torch has this device here.

    Raises:
        ValueError: it has not.
    """
    import torch

    try:
        torch.empty(0, device=device).cpu()  # of `meta`, which holds no numbers, too
    except (RuntimeError, AssertionError):  # the latter is how a build without CUDA says so
        raise ValueError(
            f"--device {device!r} is no device of this machine; use cpu, or cuda where there is one."
        ) from None
