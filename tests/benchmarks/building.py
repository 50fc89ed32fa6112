"""Building SMILES into ids on disk, against `selfies.encoder` alone on the same molecules.

    python -m tests.benchmarks.building                       # 100,000 molecules of MOSES, interleaved slices
    python -m tests.benchmarks.building --whole FILE          # one file of SMILES whole, e.g. the full MOSES
    python -m tests.benchmarks.building --merge 1e6 3e6 1e7   # how merging grows, on parts made up from real ones

A build reads the file, makes canonical SMILES, group keys and SELFIES tokens, tells duplicates, decides splits, and
writes arrays and checksums; `selfies.encoder` only writes strings. Both are given CPU time of the process, one thread.
`--whole` builds in a child process of its own, so that its peak memory is that of the build; with more than one process
the workers' time and the largest one's memory are told beside it. `selfies.encoder` writes half of the same file before
and half after, so that a machine whose load changes slows both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CHILD = """
import json, os, resource, sys, time
from chemscale import data
before = time.process_time()
manifest = data.build(sys.argv[1], processes=int(sys.argv[2]), progress=False)
own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu": time.process_time() - before, "children_cpu": children.ru_utime + children.ru_stime,
    "peak_mb": own.ru_maxrss / 1024, "largest_child_mb": children.ru_maxrss / 1024,
    "molecules": sum(manifest.counts.values()), "rejected": manifest.rejected, "content": manifest.content}))
"""


def interleaved(molecules: int, slices: int) -> dict[str, Any]:
    """CPU seconds of both on the same slices, one after the other."""
    import selfies

    from chemscale import data
    from chemscale.data.moses import read_embedded
    from chemscale.data.sources import embedded

    smiles = read_embedded(embedded("moses-train.parquet"))[0]
    smiles = [smiles[i] for i in np.random.default_rng(0).permutation(len(smiles))[:molecules]]
    data.build(_written(smiles[:500], "warm"), processes=1, progress=False)  # imports
    encoder = build = 0.0
    for k in range(slices):
        some = smiles[k::slices]
        file = _written(some, f"slice{k}")
        start = time.process_time()
        for text in some:
            selfies.encoder(text)
        middle = time.process_time()
        data.build(file, processes=1, progress=False)
        encoder += middle - start
        build += time.process_time() - middle
    return {
        "molecules": len(smiles),
        "encoder_us": 1e6 * encoder / len(smiles),
        "build_us": 1e6 * build / len(smiles),
        "ratio": build / encoder,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def whole(file: str, processes: int) -> dict[str, Any]:
    """One build in a process of its own, between the two halves of what `selfies.encoder` takes here."""
    encoder = _encoded(file, 0)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD, file, str(processes)], check=True, capture_output=True)
    told, wall = json.loads(done.stdout), time.monotonic() - start
    encoder += _encoded(file, 1)
    told |= {"encoder_cpu": encoder, "ratio": (told["cpu"] + told["children_cpu"]) / encoder}
    built = sorted(Path(os.environ["CHEMSCALE_HOME"], "built").iterdir(), key=lambda p: p.stat().st_mtime)[-1]
    size = sum(path.stat().st_size for path in built.iterdir())
    return {**told, "wall": wall, "bytes_each": size / told["molecules"]}


def _encoded(file: str, half: int) -> float:
    """CPU seconds of `selfies.encoder` on every second line of a file."""
    import selfies

    start = time.process_time()
    with open(file) as lines:
        for text in itertools.islice(lines, half, None, 2):
            selfies.encoder(text.strip())
    return time.process_time() - start


def merging(examples: int, before: str = "") -> dict[str, Any]:
    """Merge parts that repeat 5,000 real molecules under fresh digests; in a process of its own, after some code."""
    code = f"{before}from tests.benchmarks.building import merge_here; merge_here({examples})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return json.loads(done.stdout)


def merge_here(examples: int) -> None:
    """Make up the parts, then merge them; prints seconds, peak memory and disk."""
    from dataclasses import replace

    from chemscale.data.merging import Merger
    from chemscale.data.molecules import ready_made
    from chemscale.data.parts import Parts
    from chemscale.data.sources import embedded
    from chemscale.data.splits import BY_GROUP

    real = ready_made(embedded("moses-valid.parquet"), BY_GROUP, "selfies", None)
    count, random = len(real.lengths), np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="chemscale-merging-") as folder:
        parts = Parts(Path(folder) / "parts")
        for number in range(examples // count):
            keys = random.integers(0, 2**63, count, dtype=np.uint64)
            mark = np.full(count, BY_GROUP, dtype=np.uint8)
            parts.put(number, replace(real, member=keys, group=keys, mark=mark))
        on_disk = sum(path.stat().st_size for path in parts.folder.iterdir())
        start, out = time.process_time(), Path(folder) / "out"
        out.mkdir()
        merger = Merger(parts, Path(folder) / "scratch", "dropped", None)
        merger.decide(out)
        merger.write(out)
        told = {
            "examples": merger.examples,
            "cpu_us": 1e6 * (time.process_time() - start) / merger.examples,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "parts_bytes_each": on_disk / merger.examples,
            "built_bytes_each": sum(path.stat().st_size for path in out.iterdir()) / merger.examples,
        }
    print(json.dumps(told))


def _written(smiles: list[str], name: str) -> str:
    path = Path(os.environ["CHEMSCALE_HOME"]) / f"{name}.smi"
    path.write_text("\n".join(smiles))
    return str(path)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=100_000)
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--whole", metavar="FILE")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--merge", type=float, nargs="+", metavar="EXAMPLES")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chemscale-building-") as home:
        os.environ["CHEMSCALE_HOME"] = home
        if given.whole:
            print(json.dumps(whole(given.whole, given.processes)))
        for examples in given.merge or ():
            print(json.dumps(merging(int(examples))))
        if not given.whole and not given.merge:
            found = interleaved(given.molecules, given.slices)
            print(f"selfies.encoder {found['encoder_us']:.0f} us a molecule, build {found['build_us']:.0f} us")
            print(f"ratio {found['ratio']:.2f} (at most 1.3 is wanted), peak memory {found['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
