"""What a run learns from: its data, how files are read into them, and the weights it starts with."""

from __future__ import annotations

from dataclasses import dataclass

from chemscale.spec.plain import added_since
from chemscale.spec.portions import Portion
from chemscale.values import counted, one_of, own_numbers, require

ORDERS = ("shuffled", "nested")
REPRESENTATIONS = ("selfies", "smiles", "protein")  # what the strings of text models are written in
NOTATIONS = ("smiles", "selfies", "protein")  # what a file is written in
FORMS = ("written", "parent")
DUPLICATES = ("dropped", "kept")


@own_numbers
@dataclass(frozen=True)
class Reading:
    """How a file becomes examples; its part in a run's id is `Data.content`, the checksum of what came out.

    Args:
        column: of a table, the one with the strings; None takes `smiles`, `selfies` or `sequence`, or the only one.
        notation: what the file is written in, "smiles", "selfies" or "protein"; None goes by the column's name and by
            the representation.
        groups: what decides which examples share a split: a column of a table, a key of FASTA headers (`cluster` of
            `>id cluster=7`), or a table of two columns, id and group. None groups molecules by their skeleton, so that
            tautomers, stereoisomers and salts stay together, and makes every protein a group of its own.
        form: of molecules: "written" keeps stereochemistry, isotopes and all fragments; "parent" takes the largest
            fragment without stereochemistry and isotopes, and counts what it took off.
        vocabulary: None makes an alphabet of the training split; else "chemgpt-selfies1", "chemgpt-selfies2" or a file,
            a Hugging Face `tokenizer.json` or a `manifest.json` of built data.
        duplicates: of a canonical SMILES or a sequence: "dropped" keeps the first one, "kept" keeps all.
        longest: leave out what has more tokens than this, start and end counted; None takes all.

    Splits come from the groups, eight in ten of them training, unless they are given here, which holds even where it
    parts a group. A string whose group is in training is left out of the other splits, and so is a structure at the
    coordinates of one in an earlier split (training, validation, test), unless duplicates="kept"; what is left out is
    counted and listed. For every kind of file:
        valid, test: where validation and test examples are: a file or folder of its own ("test.xyz"), records of one
            ("mixed.xyz@:167"), or of the source itself ("@-50:", the last fifty). Of the rest all is training where
            both are given; where one is, groups decide about the other in their usual shares.
        splits: the column of a table, or key of a record, that says "train", "valid" or "test".

    The rest is for files of structures, which know `groups` too (the key of a record that names its molecule):
        energy, forces: keys of the two labels in a record; None takes those that the kind of file is known for.
        level: which labels, where a file has several: of ANI-1x "wb97x_dz", "wb97x_tz" or "ccsd(t)_cbs"; of a table
            of labels, a value of its column `level`.
        units: of energy and length, e.g. "hartree bohr", and of forces where they are no quotient of the two; None
            takes those that the kind of file is published with.
        isolated: a file of isolated atoms, whose energies become the reference energies.
    """

    column: str | None = None
    notation: str | None = None
    groups: str | None = None
    form: str = "written"
    vocabulary: str | None = None
    duplicates: str = "dropped"
    longest: int | None = None
    energy: str | None = None
    forces: str | None = None
    level: str | None = None
    units: str | None = None
    isolated: str | None = None
    valid: str | None = added_since(1, None)
    test: str | None = added_since(1, None)
    splits: str | None = added_since(1, None)

    @property
    def portions(self) -> dict[str, Portion]:
        """Where the splits are that have a place of their own."""
        said = {"valid": self.valid, "test": self.test}
        return {name: Portion.read(f"Reading.{name}", text) for name, text in said.items() if text is not None}

    def __post_init__(self) -> None:
        within = [name for name, portion in self.portions.items() if not portion.path]
        if self.splits is not None and within:
            raise ValueError(
                f"Reading.splits={self.splits!r} and Reading.{within[0]}={getattr(self, within[0])!r} both divide the "
                "source; give one of them, or a file of its own."
            )
        if self.notation is not None:
            one_of("Reading.notation", self.notation, NOTATIONS)
        for name, value in vars(self).items():
            require(value != "", f"Reading.{name}", value, "a name or None")
        one_of("Reading.form", self.form, FORMS)
        one_of("Reading.duplicates", self.duplicates, DUPLICATES)
        counted("Reading.longest", self.longest, optional=True)


@own_numbers
@dataclass(frozen=True)
class Data:
    """Which examples a run trains on.

    Args:
        source: a registered name (`chemscale data list`) or a path to a file of the user's; not part of the id.
        size: unique training examples (molecules or structures); None is the whole training split.
        key: which of the nested orders the subset is a prefix of; replicates change it.
        per_group: at most so many structures of one molecule (conformers); None takes all there are.
        representation: strings that text models read ("selfies", "smiles" or "protein"); structures ignore it.
        content: checksum of the built examples; `chemscale.complete` fills it in.
        order: of the examples in an epoch: "shuffled" anew in each; "nested" takes the first epoch as subsets are
            nested, so that a run on fewer examples is the beginning of one on more (`chemscale.train.trunk`).
        reading: how strings are read out of the file; not part of the id, for which `content` answers.
    """

    source: str
    size: int | None = None
    key: int = 0
    per_group: int | None = None
    representation: str = "selfies"
    content: str | None = None
    order: str = added_since(1, "shuffled")
    reading: Reading = added_since(1, Reading())  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        require(bool(self.source), "Data.source", self.source, "a name or a path", "see `chemscale data list`")
        counted("Data.size", self.size, optional=True)
        counted("Data.per_group", self.per_group, optional=True)
        one_of("Data.representation", self.representation, REPRESENTATIONS)
        one_of("Data.order", self.order, ORDERS)
        good = isinstance(self.reading, Reading)
        require(good, "Data.reading", self.reading, "a Reading", "e.g. Reading(vocabulary='chemgpt-selfies2')")


@dataclass(frozen=True)
class InitFrom:
    """Whose weights a run starts from, instead of fresh ones.

    Args:
        source: the store of a run, or a folder of the Hugging Face hub or of an exported potential; not part of the id.
        run: of a store, an id or an unambiguous beginning of one; None: the source is such a folder.
        content: checksum of the weights and of what their rows stand for; `chemscale.complete` fills it in.
        matched: tokens (elements) of the run's data whose rows are taken over; filled in as well.
        fresh: tokens (elements) that the origin does not know, whose rows are drawn as without it.
    """

    source: str
    run: str | None = None
    content: str | None = None
    matched: int | None = None
    fresh: int | None = None

    def __post_init__(self) -> None:
        hint = "for a run give InitFrom('runs/base', run='1a2b…')"
        require(bool(self.source), "InitFrom.source", self.source, "a store or a folder of the hub", hint)
        require(self.run is None or bool(self.run), "InitFrom.run", self.run, "an id or None", hint)

    @property
    def label(self) -> str:
        """What people call it: the run, or the folder."""
        return f"run {self.run} of {self.source}" if self.run else self.source
