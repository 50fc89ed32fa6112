"""Where numbers come from: code, versions, machine, and energy where a meter can be read."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("chemscale", "torch", "ray", "numpy", "scipy", "pyarrow", "selfies", "rdkit", "optuna")
POWERCAP = Path("/sys/class/powercap")


@functools.cache
def versions() -> str:
    """JSON of the versions that can change a number: chemscale and its commit, python, libraries, processor."""
    found = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    return json.dumps({"python": platform.python_version(), **found, "commit": commit(), "cpu": processor()})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that chemscale is imported from, "+" where files changed; None when installed."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return run.stdout.strip()


@functools.cache
def processor() -> str:
    """The model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def energy_meter(cpus: float, gpus: float, root: Path = POWERCAP) -> Callable[[], float] | None:
    """A function that returns the joules used since now, or None where nothing honest can be read.

    A processor's counter (RAPL) covers the whole package, so it is read only by a run that has every processor of the
    machine; a GPU's (NVML) only by a run that has whole GPUs.

    Args:
        cpus, gpus: what the run has on this machine.
        root: folder of the kernel's power capping interface.
    """
    if gpus >= 1 and float(gpus).is_integer():
        return _nvml_meter(int(gpus))
    if gpus == 0 and cpus >= (os.cpu_count() or 1):
        return _rapl_meter(root)
    return None


def _rapl_meter(root: Path) -> Callable[[], float] | None:
    packages = [p for p in sorted(root.glob("intel-rapl:*")) if p.name.count(":") == 1]
    try:
        before = [_microjoules(p) for p in packages]
        ranges = [int((p / "max_energy_range_uj").read_text()) for p in packages]
    except OSError:
        return None
    if not packages:
        return None

    def joules() -> float:
        after = [_microjoules(p) for p in packages]
        return sum((b - a) % wrap for a, b, wrap in zip(before, after, ranges, strict=True)) * 1e-6

    return joules


def _microjoules(package: Path) -> int:
    return int((package / "energy_uj").read_text())


def _nvml_meter(gpus: int) -> Callable[[], float] | None:
    try:
        import pynvml  # pyright: ignore[reportMissingImports]  # optional
        import torch

        pynvml.nvmlInit()
        # By identity: NVML counts all GPUs of the machine, CUDA those that the process may see, in an order of its own.
        names = [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(gpus)]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(name) for name in names]
        before = [pynvml.nvmlDeviceGetTotalEnergyConsumption(h) for h in handles]
    except Exception:  # no driver, no permission, an old card: there is no meter then
        return None
    return lambda: sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(h) for h in handles) * 1e-3 - sum(before) * 1e-3
