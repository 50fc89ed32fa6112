"""Molecules that contain a scaffold: grown at its places, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rdkit import Chem, rdBase

from chemscale.batch import TextManifest
from chemscale.data.parallel import in_chunks
from chemscale.use.canonical import read_ids
from chemscale.use.generate import BATCH, BLOCK, Generated, Request, Writer, evaluating, ids, together
from chemscale.use.prompt import Prompter
from chemscale.use.sampler import Prompt
from chemscale.use.scaffold import Scaffold


@dataclass(frozen=True)
class Grown(Generated):
    """A string that began as a scaffold.

    Its log-likelihood is that of the last writing: of the molecule but for the last place, and what grew there.

    Attributes:
        within: the molecule contains the scaffold.
        as_marked: it contains it with something at every place and nothing at its other atoms; None without places.
    """

    within: bool = False
    as_marked: bool | None = None


def grow_blocks(
    model: Any,
    manifest: TextManifest,
    request: Request,
    scaffold: Scaffold,
    *,
    first: int = 0,
    batch: int = BATCH,
) -> Iterator[list[Grown]]:
    """The sample in blocks, from block `first` on.

    Each string is grown at the first place behind a writing that ends there, then, as a whole molecule, at the next. A
    molecule that has grown elsewhere stays as it is. Without places strings take turns at the kinds of atoms that have
    a hydrogen to give, and may end without growing.

    Raises:
        ValueError: no writing of the scaffold is made of the model's tokens, or as `generate`.
    """
    writer = Writer(model, manifest, request, batch)
    atoms = scaffold.core.GetNumHeavyAtoms()
    if atoms >= writer.length:  # an atom is a token at least
        raise ValueError(
            f"a prompt of {atoms} atoms leaves no room in strings of {writer.length}; ask for longer ones."
        )
    with evaluating(model):
        prompter = Prompter(model, manifest, open_end=not scaffold.places)
        starts = [prompt for prompt in prompter.prompts(scaffold.first_growths()) if prompt is not None]
    if not starts:
        raise ValueError(
            f"prompt={scaffold.smiles!r} cannot be written in the {len(manifest.vocabulary)} tokens of this model so "
            "that it ends where it should grow; use a scaffold of elements and charges that its data hold."
        )
    for strings in in_chunks(range(first * BLOCK, request.n), BLOCK):
        made = _written(writer, manifest, strings, [starts[i % len(starts)] for i in strings], 0)
        for stage in range(1, len(scaffold.places)):
            made = _grown_on(writer, manifest, prompter, scaffold, strings, made, stage)
        yield [_judged(one, scaffold) for one in made]


def _written(
    writer: Writer, manifest: TextManifest, strings: Sequence[int], prompts: Sequence[Prompt], stage: int
) -> list[Generated]:
    block = writer.write(strings, prompts, stage)
    return together(block, read_ids(ids(block, manifest)), manifest.end)


def _grown_on(
    writer: Writer,
    manifest: TextManifest,
    prompter: Prompter,
    scaffold: Scaffold,
    strings: Sequence[int],
    made: Sequence[Generated],
    stage: int,
) -> list[Generated]:
    """All strings, those anew that have grown at all places so far and nowhere else."""
    marked = {
        place: growth
        for place, one in enumerate(made)
        if one.smiles and (growth := scaffold.next_growth(Chem.MolFromSmiles(one.smiles), stage)) is not None
    }
    with evaluating(writer.model):
        prompts = dict(zip(marked, prompter.prompts(list(marked.values())), strict=True))
    going = {place: p for place, p in prompts.items() if p is not None and len(p.tokens) < writer.length}
    if not going:
        return list(made)
    grown = _written(writer, manifest, [strings[place] for place in going], list(going.values()), stage)
    whole = dict(enumerate(made)) | dict(zip(going, grown, strict=True))
    return list(whole.values())


def _judged(one: Generated, scaffold: Scaffold) -> Grown:
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(one.smiles) if one.smiles else None
    within = molecule is not None and scaffold.within(molecule)
    as_marked = None if not scaffold.places else molecule is not None and scaffold.grown_in(molecule)
    return Grown(**vars(one), within=within, as_marked=as_marked)
