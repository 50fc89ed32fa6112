"""Builds of structures go on after a kill, and neither a build nor training holds its data in memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from chemscale import data
from chemscale.data import structures
from chemscale.data.formats import ani1x
from tests.data.test_formats import ani

ROOT = Path(__file__).parents[2]

KILLED = """
import sys, time
from chemscale import data
from chemscale.data import frame_parts
from chemscale.data.frame_parts import FrameParts
put = FrameParts.put
def slowly(self, *part):
    put(self, *part)
    time.sleep(0.2)
FrameParts.put = slowly
data.build(sys.argv[1], processes=1, progress=False)
"""


def test_a_killed_build_goes_on_with_the_records_that_are_missing(home, tmp_path, monkeypatch):
    path = ani(tmp_path / "a.h5")  # 20 formulas, each a run of its own
    environment = {**os.environ, "CHEMSCALE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], env=environment)
    deadline = time.monotonic() + 60
    while len(list(home.glob("building/*/[0-9]*.npz"))) < 3 and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not (home / "built").exists()
    calls = []
    original = structures.read_task
    with monkeypatch.context() as patch:
        patch.setattr(structures, "read_task", lambda task: calls.append(task.number) or original(task))
        again = data.build(str(path), processes=1, progress=False)
    assert 0 < len(calls) <= 17
    monkeypatch.setenv("CHEMSCALE_HOME", str(tmp_path / "other"))
    assert data.build(str(path), processes=2, progress=False).content == again.content
    assert not list(home.glob("building/*/[0-9]*.npz"))


BOUND = 64 << 20  # bytes beyond those of a process that has imported everything and trained once

BUILD = f"""
import resource, sys
from chemscale import data
from chemscale.data import assembling, structures  # all that a build needs is imported before it is measured
from chemscale.data.formats import ani1x
import ase.data, ase.geometry, h5py
def used(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1]) << 10
limit = used("VmSize") + {BOUND}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
data.build(sys.argv[1], processes=1, progress=False)
"""

TRAIN = f"""
import resource, sys
import torch
torch.set_num_threads(1)
from chemscale import data
from chemscale.models.schnet import SchNet
from chemscale.spec import Data
from chemscale.train.objectives import EnergyForce
def steps(count):
    for start in range(0, 8 * count, 8):
        batch = examples.batch(order[start:start + 8])
        loss = objective.loss(model, batch, objective.denominators(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())
examples = data.open_data(Data(sys.argv[1]), {{"cutoff": 3.0}})
order = examples.subset(None, 0, None)
model, objective = SchNet.sized(width=8, depth=1, cutoff=3.0).build(examples.manifest), EnergyForce()
optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
steps(1)
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + {BOUND}, used + {BOUND}))
print(steps(20))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits on memory as Linux has them")
def test_a_store_larger_than_memory_is_built_and_trained_on(home, tmp_path):
    """Limits are the kernel's: address space for the build; for training private memory (RLIMIT_DATA), since an array
    that is mapped from disk lies in the address space as a whole, whatever of it is in memory."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[:100] * 1.5
    with h5py.File(tmp_path / "large.h5", "w") as file:
        for k in range(60):
            group = file.create_group(f"{k:03d}")
            group["atomic_numbers"] = rng.choice([1, 6, 8], 100).astype(np.uint8)
            group["coordinates"] = (grid + rng.uniform(-0.3, 0.3, (700, 100, 3))).astype(np.float32)
            group["wb97x_dz.energy"] = rng.normal(size=700)
            group["wb97x_dz.forces"] = rng.normal(0, 0.05, (700, 100, 3)).astype(np.float32)
    assert ani1x.LEVEL == "wb97x_dz"
    environment = {**os.environ, "CHEMSCALE_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for script in (BUILD, TRAIN):
        job = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "large.h5")], env=environment, capture_output=True, text=True
        )
        assert job.returncode == 0, job.stderr[-2000:]
    size = sum(file.stat().st_size for file in (home / "built").rglob("*.npy"))
    assert size > 1.5 * BOUND
    assert np.isfinite(float(job.stdout))
