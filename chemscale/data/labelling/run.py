"""Labelling itself: one molecule, and many in parallel.

    for each molecule, in order of appearance in the source:
        for each conformer k: temperature k modulo their number, and once all have been met the next one of the charges;
            up to ATTEMPTS geometries until one is sound
        all conformers found: the molecule is taken; else it is dropped, with the reason

Every random number comes from a hash of seed, molecule, conformer and attempt, so neither the order of work
nor the number of processes changes a byte.
"""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import chain, islice
from typing import Any

import numpy as np

from chemscale.data.labelling.disk import Outcome, Structure, WorkFolder
from chemscale.data.labelling.fragments import ELEMENTS, MIN_ATOMS, Candidate, Reject, Tally, candidates
from chemscale.data.labelling.gfn2 import ConvergenceError
from chemscale.data.labelling.sampling import SAMPLINGS, Geometries, geometries_of
from chemscale.data.parallel import Progress, mapped

RULES_VERSION = 1  # rises when code changes a label or the choice of geometries
ATTEMPTS = 4  # geometries per conformer before the molecule is dropped
HOTTEST = 5000.0  # K
MAX_FORCE = 25.0  # eV/angstrom on one atom; heat at 1000 K gives 5 to 12
STATES_TAKEN = ("neutral", "any")
CHUNK = 16  # molecules per part: seconds of work, so that a killed run loses little


@dataclass(frozen=True)
class Plan:
    """All that can change a byte of the output; another plan in the same folder is refused."""

    source: str
    source_sha256: str
    fragments: bool
    max_atoms: int
    molecules: int | None
    conformers: int
    temperatures: list[float]
    elements: list[str]
    seed: int
    noise: int
    versions: dict[str, str]
    rules: int = RULES_VERSION
    states: str = "neutral"
    charges: list[int] = field(default_factory=lambda: [0])
    sampling: str = "springs"
    per_shape: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for the first wrong value."""
        for sound, problem in _requirements(self):
            if not sound:
                raise ValueError(problem)

    @property
    def facts(self) -> dict[str, Any]:
        """Its values, those that came later only where they say something: plans of before keep their ids."""
        return {k: v for k, v in asdict(self).items() if k not in _SINCE or v != _SINCE[k]}

    @property
    def id(self) -> str:
        return sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def extended(self) -> bool:
        """Whether its file has charges and spins."""
        return self.states != "neutral" or self.charges != [0]


_SINCE: dict[str, Any] = {"states": "neutral", "charges": [0], "sampling": "springs", "per_shape": 1}


def _requirements(p: Plan) -> list[tuple[bool, str]]:
    warm = bool(p.temperatures) and all(0 <= t <= HOTTEST for t in p.temperatures)
    strange = sorted(set(p.elements) - set(ELEMENTS))
    least = len(p.temperatures) * (len(p.charges) - 1) + 1  # structures after which every charge has had its turn
    return [
        (p.max_atoms >= MIN_ATOMS, f"max_atoms={p.max_atoms} leaves no molecule; give at least {MIN_ATOMS}."),
        (
            p.molecules is None or p.molecules > 0,
            f"molecules={p.molecules} must be 1 or more; None takes all.",
        ),
        (1 <= p.conformers <= 127, f"conformers={p.conformers} must be 1 to 127; 4 is usual."),
        (warm, f"temperatures={p.temperatures} must be one or more of 0 to {HOTTEST:g} K, such as 100,300."),
        (p.noise >= 0, f"noise={p.noise} must be 0 (measure none) or how many structures to label again."),
        (not strange, f"elements={strange} cannot be labelled here; choose among {', '.join(ELEMENTS)}."),
        (p.states in STATES_TAKEN, f"states={p.states!r} must be one of {', '.join(STATES_TAKEN)}."),
        (
            bool(p.charges) and all(-2 <= c <= 2 for c in p.charges),
            f"charges={p.charges} must be one or more of -2 to 2, added to each molecule's own, such as 0,1,-1.",
        ),
        (
            p.conformers >= least,
            f"conformers={p.conformers} never comes to the last of charges={p.charges}, since the next one comes "
            f"once all {len(p.temperatures)} temperatures have had their turn; give at least {least}, or fewer "
            "temperatures.",
        ),
        (p.sampling in SAMPLINGS, f"sampling={p.sampling!r} must be one of {', '.join(SAMPLINGS)}."),
        (1 <= p.per_shape <= p.conformers, f"per_shape={p.per_shape} must be 1 to conformers={p.conformers}."),
    ]


def label_molecule(candidate: Candidate, plan: Plan) -> Outcome:
    """All conformers of one molecule with their labels, or none, with the reasons."""
    rejects: list[Reject] = []
    structures: list[Structure] = []
    source = geometries_of(candidate.smiles, plan.seed, plan.sampling, plan.per_shape)
    for conformer in range(plan.conformers):
        structure = _conformer(candidate, conformer, plan, source, rejects)
        if structure is None:
            short = f"dropped: fewer than {plan.conformers} conformers accepted"
            return Outcome(candidate, (), (*rejects, Reject(candidate.line, candidate.smiles, short)))
        structures.append(structure)
    return Outcome(candidate, tuple(structures), tuple(rejects))


def _conformer(
    candidate: Candidate, conformer: int, plan: Plan, source: Geometries, rejects: list[Reject]
) -> Structure | None:
    temperature = plan.temperatures[conformer % len(plan.temperatures)]
    charge = plan.charges[conformer // len(plan.temperatures) % len(plan.charges)]
    for attempt in range(ATTEMPTS):
        found = _attempt(candidate.smiles, conformer, attempt, temperature, charge, source)
        if isinstance(found, Structure):
            return found
        detail = f"conformer {conformer}, attempt {attempt}, {temperature:g} K"
        rejects.append(Reject(candidate.line, candidate.smiles, found, detail))
    return None


def _attempt(
    smiles: str, conformer: int, attempt: int, temperature: float, charge: int, source: Geometries
) -> Structure | str:
    """A labelled structure, or the reason why this geometry gives none."""
    state = source.state(charge)
    try:
        shape = source.geometry(conformer, attempt, temperature, state)
        if shape.reason:
            return shape.reason
        found = source.label(shape, state)
    except ConvergenceError:
        return "SCC not converged"
    if np.linalg.norm(found.forces, axis=1).max() > MAX_FORCE:
        return f"force above {MAX_FORCE} eV/angstrom"
    forces = found.forces.astype(np.float32)
    placed = shape.positions
    return Structure(smiles, conformer, temperature, shape.species, placed, found.energy, forces, *state)


@dataclass(frozen=True)
class Chunk:
    """A run of candidates, and what had been read and left out when its last one was found."""

    index: int
    candidates: list[Candidate]
    lines: int
    rejects: list[Reject]
    skipped: Counter[str]


def label_all(
    records: Iterable[tuple[int, str]], plan: Plan, work: WorkFolder, processes: int | None, bar: Progress
) -> tuple[int, int, Tally]:
    """Label until enough molecules are taken: how many chunks, how many outcomes of the last one, and the tally."""
    tally, accepted, count = Tally(), 0, 0
    for chunk, outcomes in _finished_chunks(chunks(records, plan), plan, work, processes):
        tally = Tally(chunk.lines, [*tally.rejects, *chunk.rejects], chunk.skipped)
        count += 1
        for place, outcome in enumerate(outcomes, 1):
            accepted += bool(outcome.structures)
            bar.advance(bool(outcome.structures))
            if accepted == plan.molecules:
                return count, place, tally
    return count, CHUNK, tally


def chunks(records: Iterable[tuple[int, str]], plan: Plan) -> Iterator[Chunk]:
    """The candidates in runs of CHUNK; the last run is shorter, perhaps empty, and ends the source."""
    tally = Tally()
    stream = candidates(
        records,
        tally=tally,
        fragments=plan.fragments,
        max_atoms=plan.max_atoms,
        elements=plan.elements,
        states=plan.states,
    )
    for index in range(2**31):
        found = list(islice(stream, CHUNK))
        rejects, tally.rejects = tally.rejects, []
        yield Chunk(index, found, tally.lines, rejects, Counter(tally.skipped))
        if len(found) < CHUNK:
            return


def label_chunk(task: tuple[list[Candidate], Plan]) -> list[Outcome]:
    """What a worker does."""
    found, plan = task
    return [label_molecule(candidate, plan) for candidate in found]


def _finished_chunks(
    source: Iterator[Chunk], plan: Plan, work: WorkFolder, processes: int | None
) -> Iterator[tuple[Chunk, list[Outcome]]]:
    """Chunks with their outcomes: first those on disk (kept in order, so none is missing), then new ones."""
    sent: deque[Chunk] = deque()

    def tasks(rest: Iterable[Chunk]) -> Iterator[tuple[list[Candidate], Plan]]:
        for chunk in rest:
            sent.append(chunk)
            yield chunk.candidates, plan

    for chunk in source:
        if not work.has(chunk.index):
            for outcomes in mapped(label_chunk, tasks(chain([chunk], source)), processes):
                done = sent.popleft()
                work.keep(done.index, outcomes)
                yield done, outcomes
            return
        yield chunk, work.load(chunk.index)
