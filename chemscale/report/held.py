"""Something to hold: molecules that the best text model writes, and the best potential's errors on its test set.

Needs the weights of the best runs and their data on this machine; what is missing is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chemscale.audit.groups import Group, Row
from chemscale.audit.values import joined
from chemscale.records.store import Store
from chemscale.report.numbers import by_error, count, percent, whole
from chemscale.report.values import Held, Molecules, Parity

if TYPE_CHECKING:
    from chemscale.use.load import Trained

DRAWN = 20  # molecules on the page
SAMPLED = 500  # molecules that validity, uniqueness and novelty are told of
STRUCTURES = 200  # test structures behind the parity plots
SEED = 0


def hold(store: Store, groups: Sequence[Group]) -> Held:
    """What can be shown of the best text model, and of the best potential of every data set."""
    missing: list[str] = []
    molecules, potentials = None, []
    text = [group for group in groups if group.family == "text"]
    atoms = _best_of_each([group for group in groups if group.family == "structures"])
    if not text:
        missing.append("No text model has finished, so there are no molecules to show.")
    if not atoms:
        missing.append("No interatomic potential has finished, so there are no energies and forces to show.")
    for group in [g for g in text if g.architecture == "chemgpt"][:1] or text[:1]:
        try:
            molecules = _molecules(store, group)
        except (ValueError, OSError) as error:
            missing.append(f"No molecules of {group.title}: {error}")
    for group in atoms:
        try:
            potentials.append(_parity(store, group))
        except (ValueError, OSError) as error:
            missing.append(f"No parity plots of {group.title}: {error}")
    return Held(molecules, tuple(potentials), tuple(missing))


def _best_of_each(groups: list[Group]) -> list[Group]:
    """Of every data set, the group whose best run has the lowest error, in the first group's metric."""
    chosen: dict[str, Group] = {}
    for group in groups:
        rival = chosen.setdefault(group.content, group)
        if group.metric == rival.metric and group.best()[group.metric] < rival.best()[group.metric]:
            chosen[group.content] = group
    return list(chosen.values())


def _molecules(store: Store, group: Group) -> Molecules:
    """A sample of the best run: its quality in a sentence, and drawings of its first different molecules."""
    from chemscale.data.subsets import digests
    from chemscale.use.draw import draw
    from chemscale.use.evaluate import sample_quality
    from chemscale.use.generate import generate

    best = group.best()
    trained = _load(store, best)
    if trained.manifest.representation == "protein":
        raise ValueError("it writes proteins, which are not drawn.")
    written = [one.smiles for one in generate(trained.module, trained.manifest, SAMPLED, seed=SEED)]
    different = list(dict.fromkeys(s for s in written if s is not None))
    run = trained.run.data
    examples = trained.examples()
    seen = set(examples.arrays["member_digest"][examples.subset(run.size, run.key, run.per_group)].tolist())
    known = [s for s, code in zip(different, digests(different).tolist(), strict=True) if code in seen]
    quality = sample_quality(written, known)
    size = f"{whole(best[group.data])} {group.data}"
    sentence = (
        f"The {group.name} that validated best ({count(best['params'])} parameters, {size}) wrote {quality.n} strings "
        f"at temperature 1: {_share(quality.validity)} are molecules, of these {_share(quality.uniqueness)} differ, "
        f"and of those {_share(quality.novelty)} are not among the {size} that it was trained on. Below are the first "
        f"{min(DRAWN, len(different))} different ones."
    )
    drawings = tuple((draw([smiles], columns=1), smiles) for smiles in different[:DRAWN])
    return Molecules(drawings, sentence)


def _load(store: Store, row: Row) -> Trained:
    import chemscale.models  # noqa: F401  registers the models that stored specs name
    from chemscale.use.load import load

    return load(store, row["run_id"])


def _share(value: float | None) -> str:
    return "none" if value is None else percent(value)


def _parity(store: Store, group: Group) -> Parity:
    """The best run's errors over its whole test set, from its row, and pairs of a part of it, measured here."""
    from chemscale.use.evaluate import evaluate_potential

    best = group.best()
    trained = _load(store, best)
    examples = trained.examples()
    ids = examples.split("test")
    part = ids[:STRUCTURES]
    measured = evaluate_potential(trained.module, examples, part)
    sentence = (
        f"{group.name} with {count(best['params'])} parameters, trained on {whole(best[group.data])} {group.data}: "
        f"{_errors(best)} Plotted: {len(part)} of the {len(ids)} test structures; energies are per atom, minus "
        "reference energies."
    )
    pairs = (tuple((float(x), float(y)) for x, y in p) for p in (measured.energy_pairs, measured.force_pairs))
    return Parity(group.slug, group.title, sentence, *pairs)


def _errors(row: Row) -> str:
    parts = []
    for kind, unit in (("energy", "eV/atom"), ("force", "eV/angstrom")):
        for how, words in (("mae", "mean absolute"), ("rmse", "root mean square")):
            value, se = row[f"{kind}_{how}"], row[f"{kind}_{how}_se"]
            if value is not None:
                parts.append(f"{words} {kind} error {by_error(value, se)} {unit}")
    return f"on its test set of {whole(row['test_examples'] or 0)} structures, {joined(parts)}."
