"""What a file of labels tells about itself: method, rules, command, counts, noise, licence."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdkit import Chem

from chemscale.data.labelling import conformers as geometry
from chemscale.data.labelling import modes, sampling
from chemscale.data.labelling.disk import Structure
from chemscale.data.labelling.fragments import ELEMENTS, Tally
from chemscale.data.labelling.run import ATTEMPTS, MAX_FORCE, Plan
from chemscale.data.sources import MOSES_CITATION, MOSES_LICENCE

METHOD = "GFN2-xTB (Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652, 2019): semi-empirical, not DFT"
UNITS = {"energy": "eV", "forces": "eV/angstrom", "positions": "angstrom", "temperature": "K"}
RULES = {
    "identity": "canonical SMILES without stereo; of those that share a group key (tautomers do) only the first",
    "geometry": "ETKDGv3, relaxed by MMFF94, then displaced by a Gaussian of covariance kT/H, H that of a spring"
    f" network (softest mode {geometry.SOFTEST} eV/angstrom^2); up to {ATTEMPTS} attempts per conformer",
    "rejected": f"any two atoms closer than {geometry.COLLAPSED} times the sum of their covalent radii, three or"
    f" more bonds apart closer than {geometry.TOUCHING}, bonded further than {geometry.BROKEN}; a force above"
    f" {MAX_FORCE} eV/angstrom; SCC not converged",
}


@dataclass(frozen=True)
class Origin:
    """Where known SMILES come from, told by the checksum of the file."""

    origin: str
    licence: str
    citation: str


KNOWN_SOURCES = {
    "786f0313aa6b9ba5514df685f885742a70ea8d86f1a4fa48115f7f80a634265c": Origin(
        "MOSES training split (moses/dataset/data/train.csv.gz in the wheel of molsets 0.3.1)",
        MOSES_LICENCE,
        MOSES_CITATION,
    )
}


@dataclass
class Contents:
    """What some structures are, counted as they come."""

    molecules: int = 0
    structures: int = 0
    atoms: int = 0
    present: Counter[str] = field(default_factory=Counter)  # molecules with each element
    states: Counter[str] = field(default_factory=Counter)  # structures by charge and unpaired electrons

    def add(self, structures: Sequence[Structure]) -> None:
        """Count the structures of one molecule."""
        if not structures:
            return
        symbol = Chem.GetPeriodicTable().GetElementSymbol
        self.molecules += 1
        self.structures += len(structures)
        self.atoms += sum(len(s.species) for s in structures)
        self.present.update(symbol(number) for number in sorted({*structures[0].species.tolist()}))
        self.states.update(f"charge {s.charge:+d}, {s.spin} unpaired" for s in structures)


def describe(
    plan: Plan,
    out: Path,
    contents: Contents,
    tally: Tally,
    rejected: Counter[str],
    floor: dict[str, Any],
) -> dict[str, Any]:
    """All of it, as one JSON object."""
    known = KNOWN_SOURCES.get(plan.source_sha256, Origin("the user's own file", "that of the source", ""))
    return {
        "method": METHOD,
        "program_versions": plan.versions,
        "command": command_line(plan, out),
        "plan": plan.id,
        "seed": plan.seed,
        "units": UNITS,
        "rules": rules_of(plan),
        "counts": {
            "molecules": contents.molecules,
            "structures": contents.structures,
            "atoms": contents.atoms,
            "lines_read": tally.lines,
            "molecules_with": dict(sorted(contents.present.items())),
            "pieces_passed_over": dict(sorted(tally.skipped.items())),
            **({"states": dict(sorted(contents.states.items()))} if plan.extended else {}),
        },
        "rejected": dict(sorted(rejected.items())),
        "label_noise": floor,
        "licence": known.licence,
        "citation": known.citation,
        "source": {"file": plan.source, "sha256": plan.source_sha256, "origin": known.origin},
    }


def rules_of(plan: Plan) -> dict[str, str]:
    """How geometries, identities and states were chosen, in words."""
    rules = dict(RULES)
    if plan.per_shape > 1 or plan.sampling != "springs":
        rules["shapes"] = (
            f"{plan.per_shape} structures from each relaxed conformer; UFF where MMFF94 knows no parameters"
        )
    if plan.sampling == "modes":
        rules["geometry"] = (
            "displaced along the normal modes of GFN2-xTB at its minimum next to a conformer (ETKDGv3, MMFF94), each "
            f"with kT/2 on average; modes below {modes.SOFTEST:g}/cm move as that one does"
        )
    if plan.sampling == "md":
        rules["geometry"] = (
            f"Langevin dynamics on GFN2-xTB from a conformer (ETKDGv3, MMFF94), {sampling.TIME_STEP:g} fs a step, "
            f"friction {sampling.FRICTION:g}/fs, a structure every {sampling.STEPS} steps"
        )
    if plan.extended:
        rules["states"] = (
            f"molecules as written ({plan.states}), their charge plus {', '.join(map(str, plan.charges))} in turn, "
            "unpaired electrons as written, or as few as there can be where electrons were added or taken"
        )
    return rules


def command_line(plan: Plan, out: Path) -> str:
    """The command line that makes the file; --processes changes nothing and is left to whoever runs it."""
    words = ["chemscale data label", plan.source, "--out", out.name]
    words += ["--fragments"] if plan.fragments else []
    words += ["--max-atoms", plan.max_atoms]
    words += [] if plan.molecules is None else ["--molecules", plan.molecules]
    words += ["--conformers", plan.conformers]
    words += ["--temperatures", ",".join(f"{t:g}" for t in plan.temperatures), "--seed", plan.seed]
    words += ["--elements", ",".join(plan.elements)] if tuple(plan.elements) != ELEMENTS else []
    words += ["--noise", plan.noise] if plan.noise != 500 else []
    words += ["--states", plan.states] if plan.states != "neutral" else []
    words += ["--charges", ",".join(map(str, plan.charges))] if plan.charges != [0] else []
    words += ["--sampling", plan.sampling] if plan.sampling != "springs" else []
    words += ["--per-shape", plan.per_shape] if plan.per_shape != 1 else []
    return " ".join(map(str, words))
