"""Structures a second of `chemscale data label` beside tblite alone, interleaved, on all processors that are given.

    python -m tests.benchmarks.labelling [--molecules 64] [--conformers 20] [--per-shape 1,10,20] [--processes 2]

tblite alone: for each structure that was labelled, a calculator is set up and asked for energy and gradient, in as many
processes, with geometries at hand and nothing written; so it does neither conformers nor checks nor files. Each round
labels the molecules anew with another seed, then lets tblite alone have the structures that came out.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from chemscale.data.label import label
from chemscale.data.labelling.disk import from_table
from chemscale.data.labelling.gfn2 import BOHR
from chemscale.data.parallel import in_processes
from chemscale.data.sources import embedded


def alone(structures):
    """tblite on some structures; what one process does."""
    from tblite.interface import Calculator

    for s in structures:
        calculator = Calculator("GFN2-xTB", s.species.astype(int), s.positions.astype(float) / BOHR)
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        result.get("energy"), result.get("gradient")
    return len(structures)


def round_of(molecules, conformers, per_shape, processes, seed, folder):
    """Structures a second and a processor second, by us and by tblite alone, on the same structures."""
    began = clocks()
    made = label(
        molecules, folder / f"{per_shape}-{seed}.parquet", conformers=conformers, per_shape=per_shape, noise=0,
        seed=seed, processes=processes, progress=False,
    )  # fmt: skip
    ours = clocks() - began
    structures = from_table(pq.read_table(made.out))
    from tests.benchmarks.labelling import alone as named  # workers look it up in its module, which is not __main__

    tasks = [structures[start : start + 20] for start in range(0, len(structures), 20)]
    began = clocks()
    assert sum(in_processes(named, tasks, processes)) == len(structures)
    return len(structures) / ours, len(structures) / (clocks() - began)


def clocks():
    """(seconds, processor seconds of this process and its workers that have ended)."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(s.ru_utime + s.ru_stime for s in spent)])


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--molecules", type=int, default=64)
    asked.add_argument("--conformers", type=int, default=20)
    asked.add_argument("--per-shape", default="1,10,20")
    asked.add_argument("--processes", type=int, default=2)
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    table = pq.read_table(embedded("fragments-gfn2.parquet"))
    sizes = table["species"].combine_chunks().value_lengths().to_pylist()
    atoms = dict(zip(table["smiles"].to_pylist(), sizes, strict=True))
    spread = sorted(atoms, key=atoms.get)[:: max(1, len(atoms) // given.molecules)][: given.molecules]
    order = np.random.default_rng(0).permutation(len(spread))  # small and large ones fall on both processes alike
    molecules = [spread[i] for i in order]
    mean = np.mean([atoms[m] for m in molecules])
    print(
        f"{len(molecules)} molecules of {mean:.1f} atoms, {given.conformers} structures each, {given.processes} workers"
    )
    rates = {int(w): [] for w in given.per_shape.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.rounds):
            for width, found in rates.items():
                ours, theirs = round_of(molecules, given.conformers, width, given.processes, seed, Path(folder))
                found.append(ours / theirs)  # [seconds, processor seconds]
                print(
                    f"  per_shape {width}: ours {ours} a second and processor second, tblite alone {theirs}", flush=True
                )
    for width, found in rates.items():
        wall, work = np.median(found, axis=0)
        spread = f"{min(r[0] for r in found):.2f} to {max(r[0] for r in found):.2f}"
        print(f"per_shape {width:3d}: {wall:.2f} of tblite's own rate ({spread}); {work:.2f} by processor time")


if __name__ == "__main__":
    main()
