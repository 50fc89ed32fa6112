"""Clusters that run, as far as one machine goes: one that grows and shrinks, and one that Slurm's script makes."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray

from chemscale.records.store import Store
from tests.head_node import free_ports, head_node, wait_until
from tests.test_cluster import slurm

ALONE = ("unshare", "--pid", "--net", "--fork", "--mount-proc")  # own processes and ports: Ray's end ends all it finds
RECIPE = """
from chemscale import Budget, ChemGPT, Data, Evaluation, Grid, Optim, RunSpec

def recipe(source="moses"):
    base = RunSpec(
        model=ChemGPT.sized(width=8), data=Data(source, size=100), optim=Optim(batch=8),
        budget=Budget(updates=10), evaluation=Evaluation(points=2, valid=32, test=32),
    )
    return Grid(base, seeds=(0, 1, 2))
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "few.py"
    path.write_text(RECIPE)
    return str(path)


def growing(folder, port):
    """An autoscaler's file for a head node that trains nothing, and up to two nodes of one processor beside it."""
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    config = {
        "cluster_name": "growing", "max_workers": 2, "idle_timeout_minutes": 0.1, "upscaling_speed": 1.0,
        "provider": {"type": "external", "use_node_id_as_ip": True, "disable_node_updaters": True,
                     "disable_launch_config_check": True, "module": provider,
                     "gcs_address": f"{ray.util.get_node_ip_address()}:{port}"},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default", "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "initialization_commands": [], "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [],
    }  # fmt: skip
    path = Path(folder) / "growing.json"
    path.write_text(json.dumps(config))
    return path


def trainers_of(address):
    """How many nodes of a cluster live and have a processor; asked of its head, so that this process joins nothing."""
    from ray._raylet import GcsClient

    nodes = GcsClient(address=address).get_all_node_info(timeout=30).values()
    return sum(node.state == node.ALIVE and node.resources_total.get("CPU", 0) > 0 for node in nodes)


@pytest.mark.slow
def test_a_cluster_grows_for_a_sweep_and_shrinks_after_it(recipe, molecules, tmp_path):
    with tempfile.TemporaryDirectory(prefix="cs", dir="/tmp", ignore_cleanup_errors=True) as folder:
        (port,) = free_ports(1)
        more = ("--num-cpus=0", f"--autoscaling-config={growing(folder, port)}")
        environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_AUTH_MODE": "disabled"}
        with head_node(folder, *more, port=port, **environment) as (_, address):
            store, seen = tmp_path / "store", []
            command = [sys.executable, "-m", "chemscale", "sweep", recipe, "--store", str(store),
                       "--set", f"source={molecules}", "--concurrent", "2"]  # fmt: skip
            sweep = subprocess.Popen(command, env={**os.environ, **environment, "RAY_ADDRESS": address})

            def trainers():
                seen.append(trainers_of(address))
                return seen[-1]

            try:
                wait_until(lambda: trainers() >= 0 and sweep.poll() is not None, 240)
                assert sweep.returncode == 0
                wait_until(lambda: trainers() == 0, 60)
            finally:
                sweep.kill()
                sweep.wait()
    assert seen[0] == 0
    assert max(seen) == 2
    assert [row["status"] for row in Store(store).runs().to_pylist()] == ["finished"] * 3


@pytest.mark.slow
def test_the_slurm_script_runs_a_study_on_one_node(recipe, molecules, tmp_path, short_folder):
    if subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespaces, and Ray's end would end other Ray processes")
    arguments = [recipe, "--store", str(tmp_path / "store"), "--set", f"source={molecules}"]
    within = (*ALONE, "bash", "-c", 'ip link set lo up && exec "$@"', "-")
    done = slurm(tmp_path, {}, arguments, within, RAY_TMPDIR=short_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "On head node" in done.stdout
    assert [row["status"] for row in Store(tmp_path / "store").runs().to_pylist()] == ["finished"] * 3
