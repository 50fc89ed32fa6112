"""Training steps of our potentials beside their peers', interleaved in one process on one thread.

    python tests/benchmarks/potentials.py [--width 128] [--batch 16] [--atoms 27] [--rounds 20] [--xyz FILE]
                                          [--compile none|step] [--models schnet painn]

A step is energies, forces, double backward and Adam, in float32 at a cutoff of 5 angstrom and depth 3. Without `--xyz`
the structures are random blobs with the density of a small molecule; with it, the first structures of any file that ASE
reads. Prints median processor time per structure and the ratio peer / ours. PyTorch Geometric and SchNetPack are
measured where they are installed. With `--compile step` ours stand there compiled as well (`Resources.compile`), after
minutes of compiling; the peers stay as they are, since `torch.compile` refuses their double backward.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.painn import PaiNN
from chemscale.models.schnet import SchNet
from chemscale.train.compiled import compile_step

CUTOFF = 5.0  # angstrom
DEPTH = 3
OURS = (SchNet, PaiNN)
SPECIES = (1, 6, 7, 8)
MANIFEST = AtomicManifest("benchmark", "structures", "", 1, {}, {}, species=SPECIES, scale=1.0)
RADIUS_OF_27 = 4.1  # angstrom: 27 atoms in this ball have about the pairs of 3BPA's 27

Step = Callable[[], None]


def main() -> None:
    """Time every model on the same batch and print a table."""
    options = _options()
    torch.set_num_threads(1)
    batch = read(options.xyz, options.batch) if options.xyz else blobs(options.batch, options.atoms)
    print(f"{batch.structures} structures, {len(batch.species)} atoms, {batch.pairs.shape[1]} pairs, 1 thread")
    configs = [make.sized(options.width, DEPTH, CUTOFF) for make in OURS if make.architecture in options.models]
    steps, peers = _steps(batch, configs)
    if options.compile == "step":
        steps |= _compiled_steps(batch, configs)
    times = interleaved(steps, options.rounds)
    for name, seconds in times.items():
        rate = f"{name:24s} {1e3 * seconds / batch.structures:8.2f} ms/structure {batch.structures / seconds:8.1f} /s"
        ours = [form for form in _forms(peers[name]) if form in times] if name in peers else []
        ratios = [f"{seconds / times[form]:.2f} x as fast ({form})" for form in ours]
        print(rate + (f"   ours is {', '.join(ratios)}" if ratios else ""))


def _forms(ours: str) -> tuple[str, str]:
    return ours, f"{ours}, compiled"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training steps of potentials, ours beside their peers'.")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--atoms", type=int, default=27)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--xyz", default=None)
    parser.add_argument("--compile", choices=("none", "step"), default="none")
    names = [make.architecture for make in OURS]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    return parser.parse_args()


def _steps(batch: AtomicBatch, configs: list[Any]) -> tuple[dict[str, Step], dict[str, str]]:
    """A training step per model, and which of ours each peer stands beside."""
    steps: dict[str, Step] = {}
    for config in configs:
        module = config.build(MANIFEST)
        steps[config.architecture] = training_step(module, lambda module=module: tuple(module(batch)), batch)
    peers: dict[str, str] = {}
    for name, ours, make in (
        ("SchNet, PyG", "schnet", _pyg_schnet),
        ("SchNet, SchNetPack", "schnet", _schnetpack_schnet),
        ("PaiNN, SchNetPack", "painn", _schnetpack_painn),
    ):
        width = next((config.width for config in configs if config.architecture == ours), None)
        if width is None:
            continue
        try:
            steps[name] = make(batch, width)
            peers[name] = ours
        except ImportError as error:
            print(f"{name}: skipped, {error}")
    return steps, peers


def _compiled_steps(batch: AtomicBatch, configs: list[Any]) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    for config in configs:
        module = config.build(MANIFEST)
        compile_step(module)
        module(batch)
        print(f"{config.architecture}: compiled in {module.forward.seconds:.0f} s of wall time")
        if module.forward.differs is None:
            steps[f"{config.architecture}, compiled"] = training_step(
                module, lambda module=module: tuple(module(batch)), batch
            )
    return steps


def training_step(module: nn.Module, predict: Callable[[], tuple[Tensor, ...]], batch: AtomicBatch) -> Step:
    assert batch.energy is not None and batch.forces is not None
    energy, forces = batch.energy, batch.forces
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        predicted = predict()
        loss = (predicted[0].view(-1) - energy).square().mean() + (predicted[1] - forces).square().mean()
        loss.backward()
        optimiser.step()

    return step


def _pyg_schnet(batch: AtomicBatch, width: int) -> Step:
    from torch_geometric.nn.models import SchNet as Peer

    edges = torch.cat((batch.pairs, batch.pairs.flip(0)), 1)

    def graph(positions: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        return edges, (positions[edges[0]] - positions[edges[1]]).norm(dim=-1)

    basis = SchNet.sized(width, DEPTH, CUTOFF).basis
    peer = Peer(width, width, DEPTH, num_gaussians=basis, cutoff=CUTOFF, interaction_graph=graph)

    def predict() -> tuple[Tensor, Tensor]:
        positions = batch.positions.clone().requires_grad_()
        energy = peer(batch.species, positions, batch.owner)
        return energy, -torch.autograd.grad(energy.sum(), positions, create_graph=True)[0]

    return training_step(peer, predict, batch)


def _schnetpack_schnet(batch: AtomicBatch, width: int) -> Step:
    return _schnetpack(batch, width, "SchNet", SchNet.sized(width, DEPTH, CUTOFF).basis)


def _schnetpack_painn(batch: AtomicBatch, width: int) -> Step:
    return _schnetpack(batch, width, "PaiNN", PaiNN.sized(width, DEPTH, CUTOFF).basis)


def _schnetpack(batch: AtomicBatch, width: int, kind: str, basis: int) -> Step:
    import typing

    import torch.utils.data.dataloader as loader

    if not hasattr(loader, "T_co"):  # SchNetPack 2.1 imports this name, which torch 2.13 no longer has
        loader.T_co = typing.TypeVar("T_co", covariant=True)  # type: ignore[attr-defined]
    import schnetpack  # type: ignore[import-not-found]
    from schnetpack import atomistic  # type: ignore[import-not-found]
    from schnetpack.nn import CosineCutoff, GaussianRBF  # type: ignore[import-not-found]

    representation = getattr(schnetpack.representation, kind)(
        n_atom_basis=width,
        n_interactions=DEPTH,
        radial_basis=GaussianRBF(n_rbf=basis, cutoff=CUTOFF),
        cutoff_fn=CosineCutoff(CUTOFF),
    )
    peer = schnetpack.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[atomistic.PairwiseDistances()],
        output_modules=[
            atomistic.Atomwise(n_in=width, output_key="energy"),
            atomistic.Forces(energy_key="energy", force_key="forces"),
        ],
    )
    edges = torch.cat((batch.pairs, batch.pairs.flip(0)), 1)
    edges = edges[:, edges[0].argsort(stable=True)]
    inputs = {
        "_idx": torch.arange(batch.structures),
        "_n_atoms": batch.owner.bincount(minlength=batch.structures),
        "_atomic_numbers": batch.species,
        "_idx_m": batch.owner,
        "_idx_i": edges[0],
        "_idx_j": edges[1],
        "_offsets": torch.zeros(edges.shape[1], 3),
        "_cell": torch.zeros(batch.structures, 3, 3),
    }

    def predict() -> tuple[Tensor, Tensor]:
        out = peer({**inputs, "_positions": batch.positions.clone()})
        return out["energy"], out["forces"]

    return training_step(peer, predict, batch)


def interleaved(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median processor seconds of each step, one after the other in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if turn >= 2:  # the first two warm up
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def blobs(structures: int, atoms: int) -> AtomicBatch:
    random = np.random.default_rng(0)
    radius = RADIUS_OF_27 * (atoms / 27) ** (1 / 3)
    found = []
    for _ in range(structures):
        direction = random.normal(size=(atoms, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        found.append((random.choice(SPECIES, atoms), radius * random.random((atoms, 1)) ** (1 / 3) * direction))
    return _joined(found)


def read(path: str, structures: int) -> AtomicBatch:
    from ase.io import read as read_frames

    frames = read_frames(path, index=f":{structures}")
    return _joined([(frame.numbers, frame.positions) for frame in frames])  # type: ignore[union-attr]


def _joined(molecules: list[tuple[np.ndarray, np.ndarray]]) -> AtomicBatch:
    starts = np.cumsum([0] + [len(species) for species, _ in molecules])
    pairs = []
    for (_, positions), start in zip(molecules, starts[:-1], strict=True):
        distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
        pairs.append(np.stack(np.nonzero(np.triu(distances < CUTOFF, 1))) + start)
    owner = np.repeat(np.arange(len(molecules)), np.diff(starts))
    labels = torch.Generator().manual_seed(0)
    return AtomicBatch(
        species=torch.as_tensor(np.concatenate([species for species, _ in molecules])).long(),
        positions=torch.as_tensor(np.concatenate([positions for _, positions in molecules])).float(),
        owner=torch.as_tensor(owner),
        pairs=torch.as_tensor(np.concatenate(pairs, 1)),
        structures=len(molecules),
        energy=torch.randn(len(molecules), generator=labels),
        forces=torch.randn(len(owner), 3, generator=labels),
    )


if __name__ == "__main__":
    main()
