"""A cluster of three nodes, a store on a disk of its own, and a driver that is started again whenever it is gone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chemscale.train.environment import environment
from tests.ray_clusters import SPARE, WATCHFUL

STUDY = Path(__file__).parent / "study.py"
DISK = "32m"


class World:
    """Everything that a fault can harm.

    Attributes:
        disk: folder of the store, a small file system of its own where this user may mount one.
        store: the store's path.
        nodes: those that hold runs.
        driver: the newest process of `chemscale sweep`.
    """

    def __init__(self, folder: Path, options: dict[str, Any], cluster: Any, disk: Path):
        self.folder, self.options, self.disk = folder, options, disk
        self.store = str(disk / "store")
        self._cluster = cluster
        self.starts = 0
        self.driver: subprocess.Popen[bytes] = self.start_driver(self.store)

    @property
    def nodes(self) -> list[Any]:
        return sorted(self._cluster.worker_nodes, key=lambda node: node.unique_id)

    def replace_node(self, node: Any) -> None:
        """Take a node away without a farewell, and let another join."""
        self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.add_node(num_cpus=1, wait=True)

    def start_driver(self, store: str) -> subprocess.Popen[bytes]:
        """The command that a user types, the same each time."""
        settings = [word for name, value in self.options.items() for word in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "chemscale", "sweep", str(STUDY), "--store", store, *settings]
        with (self.folder / "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "RAY_ADDRESS": self._cluster.address}
            )
        self.starts += 1
        return self.driver


@contextlib.contextmanager
def three_nodes() -> Iterator[Any]:
    """A cluster for one sweep after another: a head and two nodes that hold runs."""
    import ray
    from ray.cluster_utils import Cluster

    scratch = tempfile.mkdtemp(prefix="ch", dir="/tmp")  # short: Ray's sockets have long names
    with environment({**WATCHFUL, "RAY_TMPDIR": scratch}):
        cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 0, **SPARE})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, wait=True)
            yield cluster
        finally:
            cluster.shutdown()
            ray.shutdown()


@contextlib.contextmanager
def world(folder: Path, options: dict[str, Any], cluster: Any) -> Iterator[World]:
    """A new store on a new disk and a driver on this cluster, and their end."""
    with own_disk(folder / "disk") as disk:
        made = World(folder, options, cluster, disk)
        try:
            yield made
        finally:
            made.driver.kill()
            made.driver.wait()


@contextlib.contextmanager
def own_disk(folder: Path) -> Iterator[Path]:
    """A small file system in memory where this user may mount one, else a plain folder, which no fault can fill."""
    folder.mkdir(parents=True)
    mounted = _quiet("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        if mounted:
            for _ in range(20):
                if _quiet("umount", str(folder)):
                    break
                time.sleep(0.5)


def _quiet(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
