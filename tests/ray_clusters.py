"""Ray clusters of a test's own: in a folder of their own, and gone when the test ends, however it ends."""

import contextlib

# Ray looks at its nodes and workers every few seconds; a test that kills one waits for each look. A node that lives and
# is busy still has as long to answer.
WATCHFUL = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",  # after which Ray Train counts again what nodes there are
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process for each group, which asks whether a cloud takes nodes away
}


# Processes of the first node that a test has no use for, a second of processor time each: they hand on what workers
# print, and ask a cloud for nodes.
SPARE = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}


@contextlib.contextmanager
def one_node(folder, *, gpus=0):
    """A node with two processors and perhaps GPUs that are only declared."""
    with _cluster(folder, num_cpus=2, num_gpus=gpus):
        import ray

        yield ray


@contextlib.contextmanager
def several_nodes(folder, *cpus):
    """A head node and others with so many processors each; yields `ray.cluster_utils.Cluster`."""
    with _cluster(folder, *cpus[1:], num_cpus=cpus[0]) as cluster:
        yield cluster


@contextlib.contextmanager
def _cluster(folder, *more, **first):
    import ray
    from ray.cluster_utils import Cluster

    with _quiet(folder):
        cluster = Cluster(initialize_head=True, head_node_args={**first, **SPARE})
        try:
            for count in more:
                cluster.add_node(num_cpus=count)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            cluster.wait_for_nodes()
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def _quiet(folder):
    """What the processes of a cluster inherit; `CHEMSCALE_HOME` and `OMP_NUM_THREADS` they have from this one."""
    from chemscale.sweep.cluster import QUIET
    from chemscale.train.environment import environment

    return environment({**QUIET, **WATCHFUL, "RAY_TMPDIR": folder})
