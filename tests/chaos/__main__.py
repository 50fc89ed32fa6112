"""The long form: `python -m tests.chaos --faults 50`; ends with 0 where every sweep survived."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from tests.chaos.chaos import as_json, cells, chaos
from tests.chaos.faults import FAULTS
from tests.excerpts import few_molecules, few_structures


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--faults", type=int, default=50)
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--kinds", default=",".join(FAULTS), help="comma between names")
    given.add_argument("--updates", type=int, default=160, help="length of each cell")
    given.add_argument("--folder", help="empty folder (default: a temporary one)")
    chosen = given.parse_args()
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="chemscale-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["CHEMSCALE_HOME"] = str(folder / "home")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = {
        "molecules": few_molecules(folder),
        "structures": few_structures(folder),
        "updates": chosen.updates,
    }
    print(f"{cells(options)} cells a sweep, seed {chosen.seed}, {folder}", flush=True)
    log = chaos(
        folder,
        options,
        faults=chosen.faults,
        seed=chosen.seed,
        kinds=chosen.kinds.split(","),
        say=lambda line: print(line, flush=True),
    )
    print(f"survived: {as_json(log)}")


if __name__ == "__main__":
    main()
