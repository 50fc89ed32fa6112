"""What runs would take on GPUs that are not at hand: hours and money, by arithmetic from a published peak."""

from __future__ import annotations

from dataclasses import dataclass

from chemscale.spec import RunSpec
from chemscale.values import one_of, positive, require

# FLOPs a second of dense matrix products, from NVIDIA's data sheets; torch multiplies float32 without tensor cores
# unless it is told otherwise, so that is what float32 means here.
PEAKS: dict[str, dict[str, float]] = {
    "v100": {"float64": 7.8e12, "float32": 15.7e12},  # V100 SXM2
    "a100": {"float64": 9.7e12, "float32": 19.5e12, "bfloat16": 312e12},  # A100 SXM
    "h100": {"float64": 34e12, "float32": 67e12, "bfloat16": 989e12},  # H100 SXM
}


@dataclass(frozen=True)
class Assumed:
    """A GPU, and what is taken for granted of it.

    Args:
        gpu: one of `PEAKS`.
        utilisation: share of its peak that training reaches; an assumption, and too high for small models, whose time
            goes into launching kernels.
        price: money for an hour of it.
    """

    gpu: str = "a100"
    utilisation: float = 0.3
    price: float = 2.0

    def __post_init__(self) -> None:
        one_of("gpu", self.gpu, tuple(PEAKS))
        positive("price", self.price)
        require(0 < self.utilisation <= 1, "utilisation", self.utilisation, "above 0 and at most 1")

    def hours(self, run: RunSpec, flops: float) -> float:
        """GPU-hours of so many matrix FLOPs in a run's precision, over all its GPUs.

        Raises:
            ValueError: the GPU has no such precision.
        """
        return flops / (self.peak(run.precision) * self.utilisation) / 3600

    def peak(self, precision: str) -> float:
        """FLOPs a second at best."""
        kind = "bfloat16" if precision.startswith("bfloat16") else precision
        if kind not in PEAKS[self.gpu]:
            raise ValueError(f"gpu={self.gpu!r} has no {precision}; it has {', '.join(PEAKS[self.gpu])}.")
        return PEAKS[self.gpu][kind]

    def sentence(self, precisions: set[str]) -> str:
        """What was assumed, in words."""
        peaks = ", ".join(f"{self.peak(p) / 1e12:g} TFLOP/s in {p}" for p in sorted(precisions))
        return (
            f"GPU-hours assume {self.utilisation:.0%} of a {self.gpu}'s {peaks}, and {self.price:g} for an hour; "
            "nobody measured them, and small models take longer, since launching kernels is most of their time."
        )
