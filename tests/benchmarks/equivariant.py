"""Training steps of NequIP and Allegro beside the packages `nequip` and `nequip-allegro`, on one thread.

    python -m tests.benchmarks.equivariant [--batch 16] [--rounds 12] [--xyz FILE] [--only nequip-l1-64 …]
                                           [--compile none|step]

Ours and the peer's step follow each other in every round, both eager or both compiled: energies, forces, double
backward and Adam, in float32 at a cutoff of 5 angstrom, with equal architectures (the same numbers of parameters, which
are printed). Compiled, ours is `Resources.compile` and theirs the package's `compile_mode`, after minutes of compiling.
Prints the median processor time of the process per structure, and the ratio peer / ours. Without `--xyz` the
structures are random blobs as dense as 3BPA. Needs `pip install nequip nequip-allegro`.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch
from torch import nn

from chemscale.batch import AtomicBatch, AtomicManifest
from chemscale.models.allegro import Allegro
from chemscale.models.nequip import NequIP
from chemscale.train.compiled import compile_step
from tests.benchmarks.potentials import CUTOFF, DEPTH, SPECIES, Step, blobs, interleaved, read, training_step

SYMBOLS = ("H", "C", "N", "O")  # of SPECIES
NEIGHBOURS = 16.75  # 3BPA's mean within 5 angstrom


def main() -> None:
    """Time every case and print a table."""
    options = _options()
    torch.set_num_threads(1)
    batch = read(options.xyz, options.batch) if options.xyz else blobs(options.batch, 27)
    how = "eager" if options.compile == "none" else "compiled"
    print(f"{batch.structures} structures, {len(batch.species)} atoms, {batch.pairs.shape[1]} pairs, 1 thread, {how}")
    for name, (config, peer, dials) in CASES.items():
        if options.only and name not in options.only:
            continue
        module = config.build(AtomicManifest("bench", "structures", "", 1, {}, {}, species=SPECIES))
        theirs = peer(compile_mode={"none": "eager", "step": "compile"}[options.compile], **dials)
        if options.compile == "step":
            _compile(name, module, batch)
        steps = {"ours": training_step(module, lambda module=module: tuple(module(batch)), batch)}
        steps["peer"] = _peer_step(theirs, batch)
        seconds = interleaved(steps, options.rounds)
        rates = [batch.structures / seconds[who] for who in ("ours", "peer")]
        print(
            f"{name:16s} ours {rates[0]:7.1f} /s ({_count(module):,} parameters)   peer {rates[1]:7.1f} /s "
            f"({_count(theirs):,})   {rates[0] / rates[1]:5.2f} x",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training steps of NequIP and Allegro beside their packages.")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--xyz", default=None)
    parser.add_argument("--only", nargs="*", choices=list(CASES))
    parser.add_argument("--compile", choices=("none", "step"), default="none")
    return parser.parse_args()


def _compile(name: str, module: nn.Module, batch: AtomicBatch) -> None:
    """Compile ours, which checks itself against the plain model; what it gives up on is no compiled step."""
    compile_step(module)
    module(batch)
    if module.forward.differs is not None:
        raise RuntimeError(f"{name}: ours is not compiled, since {module.forward.differs}")
    print(f"{name}: ours compiled in {module.forward.seconds:.0f} s of wall time", flush=True)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _ours_nequip(degree: int, width: int) -> NequIP:
    return NequIP(width, DEPTH, CUTOFF, degree=degree, types=width, neighbours=NEIGHBOURS)


def _nequip(l_max: int, num_features: int, compile_mode: str) -> nn.Module:
    from nequip.model import NequIPGNNModel  # type: ignore[import-not-found]

    return _made(
        NequIPGNNModel, l_max=l_max, num_features=num_features, num_layers=DEPTH, parity=False, radial_mlp_depth=1,
        radial_mlp_width=64, compile_mode=compile_mode,
    )  # fmt: skip


def _ours_allegro(degree: int, tensors: int) -> Allegro:
    return Allegro(2 * tensors, 2, CUTOFF, degree=degree, tensors=tensors, neighbours=NEIGHBOURS)


def _allegro(l_max: int, num_features: int, compile_mode: str) -> nn.Module:
    from allegro.model import AllegroModel  # type: ignore[import-not-found]

    scalars = 2 * num_features
    return _made(
        AllegroModel, l_max=l_max, parity=False, num_layers=2, num_scalar_features=scalars,
        num_tensor_features=num_features, scalar_embed_mlp_hidden_layers_width=scalars,
        allegro_mlp_hidden_layers_width=scalars, readout_mlp_hidden_layers_width=num_features,
        radial_chemical_embed={"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 8},
        compile_mode=compile_mode,
    )  # fmt: skip


def _made(builder: Any, **dials: Any) -> nn.Module:
    from nequip.utils.global_state import set_global_state  # type: ignore[import-not-found]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_global_state()
        peer = builder(
            seed=0, model_dtype="float32", r_max=CUTOFF, type_names=SYMBOLS,
            avg_num_neighbors=NEIGHBOURS, **dials,
        ).train()  # fmt: skip
    torch.set_default_dtype(torch.float32)  # the package leaves float64, in which our next module would be made
    return peer


def _peer_step(module: nn.Module, batch: AtomicBatch) -> Step:
    rows = torch.tensor([SPECIES.index(int(z)) for z in batch.species])
    edges = torch.cat((batch.pairs, batch.pairs.flip(0)), 1)
    edges = edges[:, edges[0].argsort(stable=True)]
    given = {"atom_types": rows, "edge_index": edges, "batch": batch.owner, "num_atoms": batch.owner.bincount()}

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        out = module({**given, "pos": batch.positions.clone()})
        return out["total_energy"], out["forces"]

    return training_step(module, predict, batch)


CASES: dict[str, tuple[Any, Any, dict[str, int]]] = {
    f"nequip-l{degree}-{width}": (_ours_nequip(degree, width), _nequip, {"l_max": degree, "num_features": width})
    for degree, width in ((1, 64), (2, 32), (2, 64))
}
CASES |= {
    f"allegro-l{degree}-32": (_ours_allegro(degree, 32), _allegro, {"l_max": degree, "num_features": 32})
    for degree in (1, 2)
}


if __name__ == "__main__":
    main()
