"""Ray clusters of a test's own: in a folder of their own, and gone when the test ends, however it ends."""

import contextlib
import os

# Ray looks at its nodes and workers every few seconds; a test that kills one waits for each look. A node that lives and
# is busy still has as long to answer.
WATCHFUL = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",  # after which Ray Train counts again what nodes there are
}


@contextlib.contextmanager
def one_node(folder, *, gpus=None):
    """A node with two processors and perhaps GPUs that are only declared."""
    import ray

    with _quiet(folder):
        try:
            ray.init(address="local", num_cpus=2, num_gpus=gpus, include_dashboard=False, _temp_dir=folder, **_joined())
            yield ray
        finally:
            ray.shutdown()


@contextlib.contextmanager
def several_nodes(folder, *cpus):
    """A head node and others with so many processors each; yields `ray.cluster_utils.Cluster`."""
    import ray
    from ray.cluster_utils import Cluster

    with _quiet(folder):
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": cpus[0], "include_dashboard": False},
        )
        try:
            for count in cpus[1:]:
                cluster.add_node(num_cpus=count)
            ray.init(address=cluster.address, **_joined())
            cluster.wait_for_nodes()
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def _quiet(folder):
    from chemscale.sweep.cluster import QUIET
    from chemscale.train.environment import environment

    return environment({**QUIET, **WATCHFUL, "RAY_TMPDIR": folder})


def _joined():
    env = {"CHEMSCALE_HOME": os.environ["CHEMSCALE_HOME"], "OMP_NUM_THREADS": "1", **WATCHFUL}
    return {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"env_vars": env}}
