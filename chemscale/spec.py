"""What a run is: frozen values, and an id that is the hash of all that can change a number.

A run names its model, its data, its optimiser, its budget, how it is evaluated, its seed and its precision. What cannot
change a number beyond rounding (workers, devices, threads, micro-batches, paths) is `Resources`, outside the hash.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from chemscale.values import canonical_json, is_number, one_of, positive, require

SPEC_VERSION = 1  # rises when code changes the numbers that an unchanged spec produces
ID_LENGTH = 16  # hexadecimal digits: 64 bits, a chance of 3e-10 of one collision among 10^5 runs

PRECISIONS = ("float32", "float64", "bfloat16_linears", "bfloat16")  # `train.precision` says what each means
FULL_PRECISIONS = PRECISIONS[:2]  # of a model that does not name its own in `precisions`
COOLDOWNS = ("linear", "sqrt")
ORDERS = ("shuffled", "nested")
OPTIMISERS = ("adamw", "muon")
CHANGING = ("lr", "beta1", "beta2", "eps", "weight_decay", "clip")  # of Optim: what may change on a member's way
KEEP = ("final", "best", "none")
REPRESENTATIONS = ("selfies", "smiles", "protein")  # what the strings of text models are written in
NOTATIONS = ("smiles", "selfies", "protein")  # what a file is written in
FORMS = ("written", "parent")
DUPLICATES = ("dropped", "kept")
SHARDING = ("ddp", "fsdp")
LAYOUTS = ("packed", "padded")
ACTIVATIONS = ("kept", "recomputed")
COMPILE = ("none", "step")

OWN_MODELS, OWN_OBJECTIVES = "chemscale.models", "chemscale.train.objectives"  # register themselves when imported

T = TypeVar("T")


@runtime_checkable
class ModelConfig(Protocol):
    """A frozen dataclass that describes one model: what the hash sees, and what builds the module.

    `architecture` is its registered name, `family` says which batches it eats ("text" or "structures"), `objective`
    names the registered objective that trains it; `depth` and `width` are the two dials that records keep. It may have
    two class attributes more: `precisions`, what it trains in beyond float32 and float64, and `packs`, true where its
    module takes `PackedTokens`.
    """

    architecture: ClassVar[str]
    family: ClassVar[str]
    objective: ClassVar[str]

    @property
    def depth(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def view(self) -> Mapping[str, Any]:
        """What the model asks of its batches, e.g. {"cutoff": 5.0} in angstrom or {"context": 64} in tokens."""
        ...

    def build(self, manifest: Any) -> Any:
        """The module (a `torch.nn.Module`) for data with this manifest, freshly initialised."""
        ...


MODELS: dict[str, type] = {}
OBJECTIVES: dict[str, type] = {}


def register_model(config: type[T]) -> type[T]:
    """Make a model known by its `architecture`, so that stored specs read back and every recipe can run it.

    Raises:
        ValueError: the class is no frozen dataclass, its name is taken, or it lacks a member of `ModelConfig`.
    """
    for name in ("family", "objective"):
        if not isinstance(getattr(config, name, None), str):
            raise ValueError(f'{config.__name__}.{name} is missing; give the class e.g. {name}: ClassVar[str] = "…".')
    for name in ("depth", "width", "view"):
        member = getattr(config, name, None)
        declared = name in getattr(config, "__dataclass_fields__", {}) or isinstance(member, property)
        if not declared:
            what = "a method" if callable(member) else "missing"
            raise ValueError(f"{config.__name__}.{name} is {what}; make it a field or a property, as in ModelConfig.")
    if not callable(getattr(config, "build", None)):
        raise ValueError(f"{config.__name__}.build is missing; give it build(self, manifest) that returns the module.")
    return _register(MODELS, config, getattr(config, "architecture", None), "architecture")


def register_objective(objective: type[T]) -> type[T]:
    """Make an objective known by its `name`, so that models can ask for it."""
    return _register(OBJECTIVES, objective, getattr(objective, "name", None), "name")


def _register(table: dict[str, type], cls: type[T], name: Any, attribute: str) -> type[T]:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{cls.__name__}.{attribute} is {name!r}; give the class a non-empty string as {attribute}.")
    if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(f"{cls.__name__} is not a frozen dataclass; decorate it with @dataclass(frozen=True).")
    other = table.get(name)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        where = f"{other.__module__}.{other.__qualname__}"
        raise ValueError(f"{cls.__name__}.{attribute}={name!r} is already taken by {where}; choose another name.")
    table[name] = cls
    return cls


def added_since(version: int, default: Any) -> Any:
    """A field that a later spec version added: it stays out of the hash while it has its default."""
    return field(default=default, metadata={"since": version})


@dataclass(frozen=True)
class Reading:
    """How a file of strings becomes examples; its part in a run's id is `Data.content`, the checksum of what came out.

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
    """

    column: str | None = None
    notation: str | None = None
    groups: str | None = None
    form: str = "written"
    vocabulary: str | None = None
    duplicates: str = "dropped"
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.notation is not None:
            one_of("Reading.notation", self.notation, NOTATIONS)
        one_of("Reading.form", self.form, FORMS)
        one_of("Reading.duplicates", self.duplicates, DUPLICATES)
        positive("Reading.longest", self.longest, optional=True)


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
        positive("Data.size", self.size, optional=True)
        positive("Data.per_group", self.per_group, optional=True)
        one_of("Data.representation", self.representation, REPRESENTATIONS)
        one_of("Data.order", self.order, ORDERS)
        good = isinstance(self.reading, Reading)
        require(good, "Data.reading", self.reading, "a Reading", "e.g. Reading(vocabulary='chemgpt-selfies2')")


@dataclass(frozen=True)
class InitFrom:
    """Whose weights a run starts from, instead of fresh ones.

    Args:
        source: the store of a run, or a folder of the Hugging Face hub; not part of the id.
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


@dataclass(frozen=True)
class Optim:
    """How parameters move: optimiser, global batch, warm-up, constant rate, cooldown.

    `lr` None means the stated rule of the model's family (`chemscale.train.optim`); `batch` counts examples of one
    update over all workers; `name` "muon" moves the matrices within a model by Muon, all else by AdamW; `warmup` and
    `cooldown` are shares of all updates, `warmup_updates` a number instead; `clip` bounds the global gradient norm.
    `epoch_warmup` takes the place of both warm-ups: the rate stands still within an epoch and grows by one part in so
    many from one to the next, from zero in the first, as a schedule does that is stepped once an epoch.
    `ema` is the decay of a moving average of the weights, which then are those measured and kept; None: no average.
    """

    lr: float | None = None
    batch: int = 32
    name: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = 1.0
    warmup: float = 0.05
    cooldown: float = 0.3
    shape: str = "linear"
    epoch_warmup: int | None = added_since(1, None)
    warmup_updates: int | None = added_since(1, None)
    ema: float | None = added_since(1, None)

    def __post_init__(self) -> None:
        positive("Optim.warmup_updates", self.warmup_updates, optional=True)
        positive("Optim.epoch_warmup", self.epoch_warmup, optional=True)
        if None not in (self.warmup_updates, self.epoch_warmup):
            raise ValueError("Optim.warmup_updates and epoch_warmup exclude each other; give one of them.")
        if self.warmup_updates is not None or self.epoch_warmup is not None:
            object.__setattr__(self, "warmup", 0.0)  # it says nothing then: equal trainings have equal ids
        positive("Optim.lr", self.lr, optional=True)
        positive("Optim.batch", self.batch)
        positive("Optim.eps", self.eps)
        positive("Optim.clip", self.clip, optional=True)
        averages = self.ema is None or (is_number(self.ema) and 0 < self.ema < 1)
        require(averages, "Optim.ema", self.ema, "between 0 and 1, or None", "papers use 0.99 to 0.999")
        one_of("Optim.name", self.name, OPTIMISERS)
        one_of("Optim.shape", self.shape, COOLDOWNS)
        for name in ("beta1", "beta2", "weight_decay", "warmup", "cooldown"):
            value = getattr(self, name)
            low_high = "at least 0" if name == "weight_decay" else "between 0 and 1"
            good = is_number(value) and value >= 0 and (name == "weight_decay" or value <= 1)
            require(good, f"Optim.{name}", value, low_high)
        require(self.warmup + self.cooldown <= 1, "Optim.warmup + cooldown", self.warmup + self.cooldown, "at most 1")


@dataclass(frozen=True)
class Budget:
    """How long a run trains: exactly one of epochs, updates or examples seen, and never fewer than `min_updates`."""

    epochs: float | None = None
    updates: int | None = None
    examples: int | None = None
    min_updates: int = 0

    def __post_init__(self) -> None:
        given = [f"{n}={v}" for n in ("epochs", "updates", "examples") if (v := getattr(self, n)) is not None]
        require(len(given) == 1, "Budget", ", ".join(given) or "empty", "exactly one of epochs, updates, examples")
        for name in ("epochs", "updates", "examples"):
            positive(f"Budget.{name}", getattr(self, name), optional=True)
        require(self.min_updates >= 0, "Budget.min_updates", self.min_updates, "at least 0")

    def total_examples(self, size: int, batch: int) -> int:
        """Examples seen in all, for `size` unique ones and a global batch of `batch`."""
        if self.examples is not None:
            asked = self.examples
        elif self.updates is not None:
            asked = self.updates * batch
        else:
            asked = max(1, round((self.epochs or 0) * size))
        return max(asked, self.min_updates * batch)


@dataclass(frozen=True)
class Evaluation:
    """When and on what a run is measured: `points` evenly spaced evaluations on `valid` examples, `test` at the end.

    The validation examples serve search, stopping and the choice of a best checkpoint; the test examples serve laws and
    are touched once, at the end. Both are "at most"; None takes the whole split.
    """

    points: int = 8
    valid: int | None = 512
    test: int | None = None

    def __post_init__(self) -> None:
        positive("Evaluation.points", self.points)
        positive("Evaluation.valid", self.valid, optional=True)
        positive("Evaluation.test", self.test, optional=True)


@dataclass(frozen=True)
class Resources:
    """Where and how a run trains; changes nothing but speed and rounding, and is no part of a run's id.

    Args:
        workers: processes that share one run; more than one goes through Ray Train.
        min_workers: go on with so few where the cluster no longer has room for all; None waits for all of them.
        sharding: what each of several workers holds: "ddp" a copy of the model, "fsdp" a share of every parameter
            (FSDP2; for losses that hold no gradient).
        cpus: processors for each worker; also its number of torch threads.
        gpus: GPUs for each worker, at most one; a fraction lets small runs share one.
        micro_batch: examples of one forward pass; None lets the loop choose.
        layout: how strings lie in memory: "packed", end to end, where the model can; "padded" to the longest.
        activations: "kept" for the backward pass, or "recomputed" block by block, for models that name their blocks:
            a third more work, and memory for one block instead of all.
        compile: "none", or "step": the model of a training step becomes fused kernels, made once in each process; that
            takes half a minute or more, so it pays for long runs (`chemscale show --tune` measures when).
        keep: which checkpoint stays after the end: "final", "best" or "none".
        checkpoint_seconds: least time between two checkpoints.
        concurrent: runs at a time, to which a cluster with an autoscaler may grow; None fills the cluster as it is.
        patience: seconds that a run goes on while its store cannot be reached; its records wait on the local disk.
        spool_bytes: how much may wait there.
    """

    workers: int = 1
    min_workers: int | None = None
    sharding: str = "ddp"
    cpus: float = 1
    gpus: float = 0
    micro_batch: int | None = None
    layout: str = "packed"
    activations: str = "kept"
    compile: str = "none"
    keep: str = "final"
    checkpoint_seconds: float = 15.0
    concurrent: int | None = None
    patience: float = 600.0
    spool_bytes: float = 2e9

    def __post_init__(self) -> None:
        self._check_workers()
        positive("Resources.cpus", self.cpus)
        gpus = is_number(self.gpus) and 0 <= self.gpus <= 1
        require(
            gpus, "Resources.gpus", self.gpus, "between 0 and 1", "a worker is one process; for more, raise workers"
        )
        positive("Resources.micro_batch", self.micro_batch, optional=True)
        one_of("Resources.layout", self.layout, LAYOUTS)
        one_of("Resources.activations", self.activations, ACTIVATIONS)
        one_of("Resources.compile", self.compile, COMPILE)
        one_of("Resources.keep", self.keep, KEEP)
        require(self.checkpoint_seconds >= 0, "Resources.checkpoint_seconds", self.checkpoint_seconds, "at least 0")
        positive("Resources.concurrent", self.concurrent, optional=True)
        require(self.patience >= 0, "Resources.patience", self.patience, "at least 0")
        require(self.spool_bytes >= 0, "Resources.spool_bytes", self.spool_bytes, "at least 0")

    def _check_workers(self) -> None:
        whole = isinstance(self.workers, int) and self.workers >= 1
        require(whole, "Resources.workers", self.workers, "a whole number of at least 1")
        fewest = self.min_workers is None or (
            isinstance(self.min_workers, int) and 1 <= self.min_workers <= self.workers
        )
        require(fewest, "Resources.min_workers", self.min_workers, f"from 1 to workers={self.workers}, or None")
        one_of("Resources.sharding", self.sharding, SHARDING)
        if self.sharding == "fsdp":
            hint = "a model is split over workers that have a GPU each, or none; use sharding='ddp'"
            require(self.workers > 1, "Resources.workers", self.workers, "at least 2 with sharding='fsdp'", hint)
            require(self.gpus in (0, 1), "Resources.gpus", self.gpus, "0 or 1 with sharding='fsdp'", hint)


@dataclass(frozen=True)
class RunSpec:
    """One training, whole: the same value gives the same numbers, and `id` is its name everywhere.

    `objective` None means the objective that the model asks for, with its defaults. `seed` draws the initial parameters
    and the order of examples. `member` names a member of a population: the optimiser's fields in `CHANGING` may change
    on its way and are no part of its id. `init_from` starts it from trained weights.
    """

    model: Any
    data: Data
    optim: Optim = field(default_factory=Optim)
    budget: Budget = field(default_factory=lambda: Budget(epochs=1))
    evaluation: Evaluation = field(default_factory=Evaluation)
    objective: Any = None
    seed: int = 0
    precision: str = "float32"
    member: str | None = None
    init_from: InitFrom | None = None

    def __post_init__(self) -> None:
        kind = type(self.model)
        require(
            MODELS.get(getattr(kind, "architecture", "")) is kind,
            "RunSpec.model",
            kind.__name__,
            "a registered model configuration such as ChemGPT.sized(width=64)",
            "register a class of your own with chemscale.register_model",
        )
        one_of("RunSpec.precision", self.precision, PRECISIONS)
        able = getattr(self.model, "precisions", FULL_PRECISIONS)
        what = f"one of {', '.join(able)} for {self.model.architecture}"
        require(self.precision in able, "RunSpec.precision", self.precision, what)
        require(isinstance(self.seed, int) and self.seed >= 0, "RunSpec.seed", self.seed, "an integer of at least 0")
        require(
            self.init_from is None or isinstance(self.init_from, InitFrom),
            "RunSpec.init_from",
            self.init_from,
            "an InitFrom or None",
            "e.g. InitFrom('runs/base', run='1a2b…') or InitFrom('folder/of/the/hub')",
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """Fields that `chemscale.complete` still has to fill in before the run has an id."""
        open_fields: dict[str, Any] = {
            "data.content": self.data.content, "data.size": self.data.size, "optim.lr": self.optim.lr
        }  # fmt: skip
        if self.init_from is not None:
            open_fields["init_from.content"] = self.init_from.content
        return tuple(name for name, value in open_fields.items() if value is None)

    @cached_property
    def id(self) -> str:
        """The first 64 bits of the SHA-256 of the canonical JSON, as 16 hexadecimal digits.

        Raises:
            ValueError: a field is still open; `chemscale.complete(run)` fills it in from the data.
        """
        if self.missing:
            raise ValueError(
                f"RunSpec has no id while {', '.join(self.missing)} is open; call chemscale.complete(run) first."
            )
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:ID_LENGTH]

    @property
    def examples(self) -> int:
        """Examples seen in all."""
        if self.data.size is None:
            raise ValueError("RunSpec.data.size is open; call chemscale.complete(run) first.")
        return self.budget.total_examples(self.data.size, self.optim.batch)

    @property
    def updates(self) -> int:
        """Optimiser steps in all; the last one may hold fewer examples than a batch."""
        return math.ceil(self.examples / self.optim.batch)

    def identity(self) -> dict[str, Any]:
        """All that can change a number, as plain values: what the id hashes."""
        data = {k: v for k, v in _plain(self.data).items() if k not in ("source", "reading")}
        tree = {**self._tree(), "data": data, "spec_version": SPEC_VERSION}
        if self.member is not None:
            tree["optim"] = {k: v for k, v in tree["optim"].items() if k not in CHANGING}
        if self.init_from is not None:
            tree["init_from"] = {"content": self.init_from.content}
        return tree

    def to_json(self) -> str:
        """Canonical JSON of the whole spec, the source's name included; `from_json` reads it back."""
        tree = {**self._tree(), "data": _plain(self.data), "spec_version": SPEC_VERSION}
        return canonical_json(tree)

    def _tree(self) -> dict[str, Any]:
        objective = None if self.objective is None else {"name": self.objective.name, **_plain(self.objective)}
        return {
            "model": {"architecture": self.model.architecture, **_plain(self.model)},
            "optim": _plain(self.optim),
            "budget": _plain(self.budget),
            "evaluation": _plain(self.evaluation),
            "objective": objective,
            "seed": self.seed,
            "precision": self.precision,
            **({} if self.member is None else {"member": self.member}),
            **({} if self.init_from is None else {"init_from": _plain(self.init_from)}),
        }


def from_json(text: str) -> RunSpec:
    """The run that `RunSpec.to_json` wrote.

    Raises:
        ValueError: a model or objective of this name is not registered here, or a field is unknown.
    """
    tree = json.loads(text)
    tree.pop("spec_version", None)
    tree["model"] = _revive(MODELS, tree["model"], "architecture", "model")
    if "reading" in tree["data"]:
        tree["data"]["reading"] = _construct(Reading, tree["data"]["reading"])
    if tree.get("objective"):
        tree["objective"] = _revive(OBJECTIVES, tree["objective"], "name", "objective")
    for name, cls in (("data", Data), ("optim", Optim), ("budget", Budget), ("evaluation", Evaluation)):
        tree[name] = _construct(cls, tree[name])
    if tree.get("init_from"):
        tree["init_from"] = _construct(InitFrom, tree["init_from"])
    return RunSpec(**tree)


def with_fields(run: RunSpec, changes: Mapping[str, Any]) -> RunSpec:
    """The run with dotted fields replaced, e.g. `with_fields(run, {"optim.lr": 1e-3, "model.width": 64})`.

    Raises:
        ValueError: there is no such field; the message lists those that exist.
    """
    for path, value in changes.items():
        run = _with_field(run, path.split("."), value, path)
    return run


def _with_field(node: Any, path: list[str], value: Any, whole: str) -> Any:
    names = [f.name for f in fields(node)] if is_dataclass(node) else []
    if path[0] not in names:
        allowed = ", ".join(names) or "none"
        raise ValueError(f"{whole} is not a field of a run: {path[0]!r} is unknown here; known fields: {allowed}.")
    if len(path) == 1 and is_dataclass(getattr(node, path[0])) and not is_dataclass(value):
        members = ", ".join(f"{whole}.{f.name}" for f in fields(getattr(node, path[0])))
        raise ValueError(f"{whole}={value!r} is not allowed: {whole} is a group of fields; set one of {members}.")
    inner = value if len(path) == 1 else _with_field(getattr(node, path[0]), path[1:], value, whole)
    return replace(node, **{path[0]: inner})  # type: ignore[type-var]


def _plain(node: Any) -> dict[str, Any]:
    later = {f.name for f in fields(node) if "since" in f.metadata and getattr(node, f.name) == f.default}
    return {k: v for k, v in asdict(node).items() if k not in later}


def _revive(table: Mapping[str, type], tree: Mapping[str, Any], key: str, what: str) -> Any:
    values = dict(tree)
    name = values.pop(key)
    if name not in table:
        importlib.import_module(OWN_MODELS)  # a stored spec may be the first thing that a process reads
        importlib.import_module(OWN_OBJECTIVES)
    if name not in table:
        known = ", ".join(sorted(table)) or "none"
        raise ValueError(f"{what} {name!r} is not registered here (known: {known}); import the module that defines it.")
    return _construct(table[name], values)


def _construct(cls: type, values: Mapping[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
