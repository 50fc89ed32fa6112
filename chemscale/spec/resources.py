"""Where and how a run trains: what changes no number beyond rounding, outside a run's id."""

from __future__ import annotations

from dataclasses import dataclass

from chemscale.values import counted, is_number, one_of, own_numbers, require

KEEP = ("final", "best", "none")
SHARDING = ("ddp", "fsdp")
LAYOUTS = ("packed", "padded")
ACTIVATIONS = ("kept", "recomputed")
COMPILE = ("none", "step")
KERNELS = ("plain", "cuequivariance")
SMALLEST = 0.0001  # part of a processor or GPU that Ray can count


@own_numbers
@dataclass(frozen=True)
class Resources:
    """Where and how a run trains; changes nothing but speed and rounding, and is no part of a run's id.

    Args:
        workers: processes that share one run; more than one goes through Ray Train.
        min_workers: go on with so few where the cluster no longer has room for all; None waits for all of them.
        sharding: what each of several workers holds: "ddp" a copy of the model, "fsdp" a share of every parameter
            (FSDP2; for losses that hold no gradient).
        cpus: processors for each worker; also its number of torch threads.
        gpus: GPUs for each worker, at most one; a fraction lets small runs share one.
        micro_batch: examples of one forward pass; None lets the loop choose.
        layout: how strings lie in memory: "packed", end to end, where the model can; "padded" to the longest.
        activations: "kept" for the backward pass, or "recomputed" block by block, for models that name their blocks:
            a third more work, and memory for one block instead of all.
        compile: "none", or "step": potentials, and the blocks of models that name them, become fused kernels in a
            training step, made once in each process; that takes half a minute or more, so it pays for long runs
            (`chemscale show --tune` measures when).
        kernels: by what NequIP and Allegro multiply irreps: "plain" torch, or "cuequivariance", NVIDIA's library, on
            its GPUs (`pip install 'chemscale[cuequivariance-cu13]'`, or `-cu12`, as torch's own CUDA is).
        keep: which weights stay after the end: "final", "best" (of the best validation where data repeat; the final
            ones where they do not) or "none".
        checkpoint_seconds: least time between two checkpoints.
        concurrent: runs at a time, to which a cluster with an autoscaler may grow; None fills the cluster as it is.
        patience: seconds that a run goes on while its store cannot be reached; its records wait on the local disk.
        spool_bytes: how much may wait there.
    """

    workers: int = 1
    min_workers: int | None = None
    sharding: str = "ddp"
    cpus: float = 1
    gpus: float = 0
    micro_batch: int | None = None
    layout: str = "packed"
    activations: str = "kept"
    compile: str = "none"
    kernels: str = "plain"
    keep: str = "final"
    checkpoint_seconds: float = 15.0
    concurrent: int | None = None
    patience: float = 600.0
    spool_bytes: float = 2e9

    def __post_init__(self) -> None:
        self._check_workers()
        cpus = is_number(self.cpus) and self.cpus >= SMALLEST
        require(cpus, "Resources.cpus", self.cpus, f"a number of at least {SMALLEST}")
        gpus = is_number(self.gpus) and (self.gpus == 0 or SMALLEST <= self.gpus <= 1)
        hint = "a worker is one process; for more, raise workers"
        require(gpus, "Resources.gpus", self.gpus, f"between 0 and 1, in parts of at least {SMALLEST}", hint)
        counted("Resources.micro_batch", self.micro_batch, optional=True)
        one_of("Resources.layout", self.layout, LAYOUTS)
        one_of("Resources.activations", self.activations, ACTIVATIONS)
        one_of("Resources.compile", self.compile, COMPILE)
        self._check_kernels()
        one_of("Resources.keep", self.keep, KEEP)
        counted("Resources.concurrent", self.concurrent, optional=True)
        for name in ("checkpoint_seconds", "patience", "spool_bytes"):
            value = getattr(self, name)
            require(is_number(value) and value >= 0, f"Resources.{name}", value, "a number of at least 0")

    def _check_kernels(self) -> None:
        one_of("Resources.kernels", self.kernels, KERNELS)
        if self.kernels != "plain":
            named = f"with kernels={self.kernels!r}"
            require(self.gpus > 0, "Resources.gpus", self.gpus, f"above 0 {named}", "or set kernels='plain'")
            require(self.compile == "none", "Resources.compile", self.compile, f"'none' {named}", "take one of the two")

    def _check_workers(self) -> None:
        whole = isinstance(self.workers, int) and self.workers >= 1
        require(whole, "Resources.workers", self.workers, "a whole number of at least 1")
        fewest = self.min_workers is None or (
            isinstance(self.min_workers, int) and 1 <= self.min_workers <= self.workers
        )
        require(fewest, "Resources.min_workers", self.min_workers, f"from 1 to workers={self.workers}, or None")
        one_of("Resources.sharding", self.sharding, SHARDING)
        if self.sharding == "fsdp":
            hint = "a model is split over workers that have a GPU each, or none; use sharding='ddp'"
            require(self.workers > 1, "Resources.workers", self.workers, "at least 2 with sharding='fsdp'", hint)
            require(self.gpus in (0, 1), "Resources.gpus", self.gpus, "0 or 1 with sharding='fsdp'", hint)
