"""Ids: golden, the same in every process, changed by all that can change a number and by nothing else."""

import os
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import pytest

from chemscale import spec
from chemscale.models import ChemGPT, PaiNN, SpookyNet
from chemscale.records.store import spec_columns
from chemscale.spec import Budget, Data, Evaluation, InitFrom, Optim, Resources, RunSpec, from_json, with_fields
from chemscale.spec.plain import plain
from chemscale.sweep.grid import Grid
from chemscale.train.objectives import EnergyForce

CONTENT = "0" * 64
BASE = RunSpec(
    model=ChemGPT.sized(width=16),
    data=Data("moses", size=1000, content=CONTENT),
    optim=Optim(lr=1e-3),
    budget=Budget(epochs=1),
)
POTENTIAL = RunSpec(
    model=PaiNN.sized(width=16),
    data=Data("fragments-gfn2", size=800, content=CONTENT),
    optim=Optim(lr=1e-3),
    objective=EnergyForce(energy=0.1, force=0.9),
)
GOLDEN = {"chemgpt": "33f00d5ead56a586", "painn": "713b2442555e9446"}


def test_golden_ids():
    """A changed golden id means that every store in the world forgets its runs: raise SPEC_VERSION knowingly."""
    assert {"chemgpt": BASE.id, "painn": POTENTIAL.id} == GOLDEN


def test_same_id_in_another_process():
    code = "from tests.test_spec import BASE, POTENTIAL; print(BASE.id, POTENTIAL.id)"
    for seed in ("0", "1"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert out.stdout.split() == [BASE.id, POTENTIAL.id]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.width", 32),
        ("data.size", 999),
        ("data.key", 1),
        ("data.per_group", 2),
        ("data.representation", "smiles"),
        ("data.content", "1" * 64),
        ("optim.lr", 2e-3),
        ("optim.batch", 16),
        ("optim.beta1", 0.8),
        ("optim.beta2", 0.9),
        ("optim.eps", 1e-6),
        ("optim.weight_decay", 0.1),
        ("optim.clip", None),
        ("optim.warmup", 0.1),
        ("optim.cooldown", 0.1),
        ("optim.shape", "sqrt"),
        ("optim.epoch_warmup", 10),
        ("budget.epochs", 2),
        ("budget.min_updates", 5),
        ("evaluation.points", 3),
        ("evaluation.valid", 100),
        ("evaluation.test", 100),
        ("seed", 1),
        ("precision", "float64"),
    ],
)
def test_every_field_that_can_change_a_number_changes_the_id(field, value):
    assert with_fields(BASE, {field: value}).id != BASE.id


def test_every_field_of_a_run_is_covered_by_the_id():
    tree = BASE.identity()
    for name, cls in (("data", Data), ("optim", Optim), ("budget", Budget), ("evaluation", Evaluation)):
        later = {f.name for f in fields(cls) if "since" in f.metadata}  # left out while they have their defaults
        expected = set(cls.__dataclass_fields__) - later - ({"source"} if name == "data" else set())
        assert set(tree[name]) == expected
    assert set(tree) == set(RunSpec.__dataclass_fields__) - {"member", "init_from"} | {"spec_version"}
    whole = replace(BASE, member="p-0", init_from=InitFrom("runs/base", "ab12", CONTENT))
    assert set(whole.identity()) == set(RunSpec.__dataclass_fields__) | {"spec_version"}


def test_weights_to_start_from_are_in_the_id_by_content_alone():
    starts = [
        replace(BASE, init_from=init)
        for init in (
            InitFrom("runs/base", "ab12", CONTENT),
            InitFrom("/elsewhere", None, CONTENT, matched=3, fresh=1),
            InitFrom("runs/base", "ab12", "1" * 64),
        )
    ]
    assert starts[0].id == starts[1].id
    assert len({BASE.id, starts[0].id, starts[2].id}) == 3
    assert from_json(starts[1].to_json()) == starts[1]


def test_a_member_of_a_population_keeps_its_id_while_its_optimiser_changes():
    member = replace(BASE, member="p-0")
    changed = replace(
        member, optim=replace(member.optim, lr=0.5, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.1, clip=None)
    )
    assert member.id == changed.id
    assert member.id != BASE.id
    assert replace(member, member="p-1").id != member.id
    assert replace(member, optim=replace(member.optim, batch=member.optim.batch * 2)).id != member.id
    assert from_json(changed.to_json()) == changed


def test_path_and_resources_do_not_change_the_id():
    assert replace(BASE, data=replace(BASE.data, source="/elsewhere/file.smi")).id == BASE.id
    assert not set(Resources.__dataclass_fields__) & set(BASE.identity())


def test_numbers_are_spelled_one_way():
    assert with_fields(BASE, {"optim.lr": 1}).id == with_fields(BASE, {"optim.lr": 1.0}).id
    assert with_fields(BASE, {"budget.epochs": 1}).id == with_fields(BASE, {"budget.epochs": 1.0}).id


def test_numbers_of_numpy_are_taken_for_pythons():
    """At the door of every part, so that checks, printing and ids meet one kind of number."""
    run = RunSpec(
        model=ChemGPT.sized(width=np.int64(16)),
        data=Data("moses", size=np.int32(1000), key=np.uint8(0), content=CONTENT),
        optim=Optim(lr=np.float64(1e-3), batch=np.int64(32), clip=np.float32(1)),
        budget=Budget(epochs=np.float32(1)),
        evaluation=Evaluation(points=np.int16(8)),
        seed=np.int64(0),
    )
    assert run == BASE and run.id == BASE.id
    assert replace(POTENTIAL, model=replace(POTENTIAL.model, width=np.int64(16))).id == POTENTIAL.id
    assert "np." not in repr(run)
    assert Resources(workers=np.int64(2), cpus=np.float32(0.5)) == Resources(workers=2, cpus=0.5)
    sizes, seeds = np.logspace(2, 3, 2).astype(int), np.arange(2)
    assert [cell.id for cell in Grid(BASE, sizes=sizes, seeds=seeds).runs()] == [
        cell.id for cell in Grid(BASE, sizes=(100, 1000), seeds=(0, 1)).runs()
    ]
    for wrong in (np.float64(16), np.bool_(True), np.int64(0)):
        with pytest.raises(ValueError, match=r"Optim\.batch=.* is not allowed: it must be a whole number above 0"):
            Optim(batch=wrong)


@pytest.mark.parametrize(
    ("optim", "share"),
    [
        (Optim(lr=1e-3, warmup=0.1), 0.1),
        (Optim(lr=1e-3, batch=10, warmup_updates=30), 0.3),  # of 100 updates
        (Optim(lr=1e-3, epoch_warmup=4), 1.0),  # of one epoch
    ],
)
def test_a_record_says_what_share_of_its_updates_warms_up(optim, share):
    assert spec_columns(replace(BASE, optim=optim))["warmup"] == share


def test_a_field_added_later_is_left_out_while_it_has_its_default():
    @dataclass(frozen=True)
    class Before:
        x: int = 1

    @dataclass(frozen=True)
    class After:
        x: int = 1
        y: int = spec.added_since(2, 5)

    assert plain(Before()) == plain(After())
    assert plain(After(y=6)) == {"x": 1, "y": 6}


def test_json_round_trip():
    for run in (BASE, POTENTIAL):
        back = from_json(run.to_json())
        assert back == run
        assert back.id == run.id


def test_an_open_run_has_no_id():
    with pytest.raises(ValueError, match=r"data\.content, data\.size is open; call chemscale\.complete"):
        _ = replace(BASE, data=Data("moses")).id


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Optim(lr=-1), r"Optim\.lr=-1 is not allowed: it must be a number above 0"),
        (lambda: Optim(lr=float("nan")), r"Optim\.lr=nan is not allowed"),
        (lambda: Optim(warmup=0.7, cooldown=0.5), r"at most 1"),
        (lambda: Budget(), "exactly one of epochs, updates, examples"),
        (lambda: Budget(epochs=1, updates=2), "epochs=1, updates=2"),
        (lambda: Data("x", size=0), r"Data\.size=0"),
        (lambda: Data(""), r"Data\.source=''"),
        (lambda: Data("x", size=1e4), r"Data\.size=10000\.0 is not allowed: it must be a whole number above 0 or None"),
        (lambda: Optim(batch=8.5), r"Optim\.batch=8\.5 is not allowed: it must be a whole number above 0"),
        (lambda: Budget(updates=2.5), r"Budget\.updates=2\.5"),
        (lambda: Budget(epochs=1, min_updates="all"), r"Budget\.min_updates='all'"),
        (
            lambda: Resources(cpus=1e-6),
            r"Resources\.cpus=1e-06 is not allowed: it must be a number of at least 0\.0001",
        ),
        (lambda: Resources(patience=None), r"Resources\.patience=None"),
        (lambda: Resources(keep="all"), "one of final, best, none"),
        (lambda: replace(BASE, precision="float8"), "one of float32, float64"),
        (lambda: replace(BASE, model="gpt"), "a registered model configuration"),
        (lambda: with_fields(BASE, {"optim.rate": 1}), "known fields: lr, batch"),
    ],
)
def test_mistakes_are_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_model_of_the_users_own_registers():
    @spec.register_model
    @dataclass(frozen=True)
    class Mine:
        architecture: ClassVar[str] = "mine"
        family: ClassVar[str] = "text"
        objective: ClassVar[str] = "next_token"
        width: int = 4
        depth: int = 1

        @property
        def view(self):
            return {}

        def build(self, manifest): ...

    try:
        assert from_json(replace(BASE, model=Mine(width=8)).to_json()).model == Mine(width=8)
    finally:
        del spec.MODELS["mine"]
    with pytest.raises(ValueError, match="model 'mine' is not registered here"):
        from_json(replace(BASE, model=ChemGPT.sized(width=16)).to_json().replace('"chemgpt"', '"mine"'))


def test_a_name_cannot_be_taken_twice():
    class Other(ChemGPT):
        pass

    with pytest.raises(ValueError, match="already taken by chemscale"):
        spec.register_model(Other)


@pytest.mark.parametrize("lacks", ["family", "objective", "width", "view", "build"])
def test_a_model_that_lacks_a_member_is_refused_with_its_name(lacks):
    members = {
        "architecture": "partial", "family": "text", "objective": "next_token", "width": 4, "depth": 1,
        "view": property(lambda self: {}), "build": lambda self, manifest: None,
    }  # fmt: skip
    names = ("architecture", "family", "objective")
    members["__annotations__"] = {**dict.fromkeys(names, "ClassVar[str]"), "width": "int", "depth": "int"}
    members.pop(lacks)
    members["__annotations__"].pop(lacks, None)
    with pytest.raises(ValueError, match=f"{lacks} is missing"):
        spec.register_model(dataclass(frozen=True)(type("Partial", (), members)))


def test_what_a_law_must_not_mix_has_names_of_its_own():
    from chemscale.models import Allegro, NequIP, PaiNN
    from chemscale.spec.registry import kind_of

    models = [NequIP.sized(8, degree=2), NequIP.sized(8, degree=1, parity=True), Allegro.sized(8), PaiNN.sized(8)]
    kinds = ["nequip_l2", "nequip_l1_parity", f"allegro_l{Allegro.sized(8).degree}", "painn"]
    assert [kind_of(model) for model in models] == kinds
    assert kind_of(replace(PaiNN.sized(8), forces="direct")) == "painn_direct"
    local = replace(SpookyNet.sized(8), attention="none")
    assert [kind_of(model) for model in (SpookyNet.sized(8), local)] == ["spookynet", "spookynet_local"]
    assert kind_of(replace(local, forces="direct")) == "spookynet_local_direct"
