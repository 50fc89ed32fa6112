"""DistributedDataParallel with two gloo workers gives the gradients of one process, forces included."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

import chemscale.models  # noqa: F401  # registers the models
from tests.models.batches import ARCHITECTURES, joined, loss, module, molecule

SHARDS = ((9, 5), (4, 7))  # atoms of each worker's molecules


def gradients(potential):
    return {name: p.grad.clone() for name, p in potential.named_parameters()}


def worker(rank, folder):
    """Each architecture in turn: half of the batch here, gradients averaged by the wrapper."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(SHARDS))
    found = {}
    for architecture in ARCHITECTURES:
        potential = module(architecture)
        wrapped = DistributedDataParallel(potential)  # to be held until the gradients are averaged
        loss(wrapped, joined([molecule(n) for n in SHARDS[rank]])).backward()
        found[architecture] = gradients(potential)
    if rank == 0:
        torch.save(found, os.path.join(folder, "gradients.pt"))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_give_the_gradients_of_one(tmp_path):
    """In float64: the sum over shards is the same sum in another order."""
    mp.spawn(worker, (str(tmp_path),), nprocs=len(SHARDS))
    found = torch.load(tmp_path / "gradients.pt")
    for architecture in ARCHITECTURES:
        potential = module(architecture)
        sum(loss(potential, joined([molecule(n) for n in shard])) for shard in SHARDS).backward()
        for name, expected in gradients(potential).items():
            assert_close(len(SHARDS) * found[architecture][name], expected, rtol=1e-10, atol=1e-9)
