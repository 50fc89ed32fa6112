"""Small real data for every test, built once per test process in a folder of its own."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own is 15: beside any other load its tests would time out

import shutil
import sys
import tempfile

import pytest
import torch

from tests.excerpts import few_molecules, few_structures
from tests.ray_clusters import one_node

LONGEST = (  # minutes each
    "test_chaos.py", "test_groups.py", "test_searching.py", "test_tune.py", "test_trainable.py", "test_explore.py",
    "test_loss_of_workers.py", "test_jobs.py", "test_readme.py", "test_admission.py", "test_cluster_runs.py",
    "test_compiled_blocks.py",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection():
    gc.disable()  # until all is imported: every collection would look through all of torch again


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """Files that take long come first: of the processes that share the files, none is left with a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def turn(item):
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST) + (item.path not in slow)

    items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """`CHEMSCALE_HOME` of this test process: nothing is read from or left in the user's cache."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["CHEMSCALE_HOME"] = str(folder)
    torch.set_num_threads(1)
    return folder


@pytest.fixture(scope="session")
def molecules(home):
    """Path of 400 real molecules."""
    return few_molecules(home)


@pytest.fixture(scope="session")
def structures(home):
    """Path of 480 real structures of 120 molecules, labelled with GFN2-xTB."""
    return few_structures(home)


@pytest.fixture(autouse=True)
def no_ray_left_behind():
    """A test that starts Ray and forgets it fails itself, not one after it."""

    def runs():
        return "ray" in sys.modules and sys.modules["ray"].is_initialized()

    before = runs()
    yield
    if runs() and not before:
        sys.modules["ray"].shutdown()
        pytest.fail("this test left Ray running")


@pytest.fixture
def short_folder():
    """A short path: Ray's sockets may not be longer than 107 characters."""
    folder = tempfile.mkdtemp(prefix="cs", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray_cluster(home):
    """A Ray cluster of this file's own with two processors: to start one for each test would take longer than they."""
    with (
        tempfile.TemporaryDirectory(prefix="cs", dir="/tmp", ignore_cleanup_errors=True) as folder,
        one_node(folder) as ray,
    ):
        yield ray
