"""Groups against each other: every sentence of a comparison is a claim, and the checks of both groups bear on it."""

import numpy as np
import pytest

import chemscale as cs
from chemscale.audit import comparing

COLUMNS = {"params": "n", "data": "d", "loss": "loss"}
PLANTED = {"a": (400.0, 0.34), "steeper": (2000.0, 0.44), "worse": (480.0, 0.34)}  # amplitude and exponent of n


def grid(name, noise=0.004, **columns):
    """Five sizes by five amounts over three decades, two seeds each."""
    rng = np.random.default_rng(sorted(PLANTED).index(name))
    n, d = (axis.ravel().repeat(2) for axis in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 1e12, 5)))
    amplitude, exponent = PLANTED[name]
    loss = (1.7 + amplitude / n**exponent + 410 / d**0.28) * np.exp(rng.normal(0, noise, 50))
    return {
        "n": n,
        "d": d,
        "loss": loss,
        "architecture": np.full(50, name),
        "test_checksum": np.full(50, "t"),
        **columns,
    }


def both(*tables):
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def claims(table, **options):
    found = cs.audit(table, **COLUMNS, **options)
    return [c for c in found.claims if c.kind == "comparison"], found


@pytest.mark.parametrize(("other", "answer"), [("steeper", "exponent"), ("worse", "constant")])
def test_a_planted_difference_is_a_claim_that_is_supported(other, answer):
    (one,), found = claims(both(grid("a"), grid(other)))
    assert (one.about, one.mark, one.numbers["answer"]) == (
        f"architecture={other} against architecture=a",
        "supported",
        answer,
    )
    planted = PLANTED[other][1] - PLANTED["a"][1]
    assert one.numbers["alpha"]["low"] <= planted <= one.numbers["alpha"]["high"]
    assert one.statement.startswith(one.about)
    assert found.of(one.about)[0].verdict == "fine"


def test_checks_of_either_group_and_of_the_pair_stand_against_it():
    (one,), _ = claims(both(grid("a", updates=np.full(50, 31)), grid("worse", updates=np.full(50, 9000))))
    assert (one.mark, one.against) == ("cannot tell", ("convergence",))
    (one,), _ = claims(both(grid("a"), grid("worse", test_checksum=np.full(50, "other"))))
    assert one.mark == "cannot tell"
    assert "differ in test_checksum" in one.why
    tuned = [grid("worse", lr=np.full(50, rate)) for rate in (1e-3, 2e-3, 4e-3, 8e-3)]
    (one,), found = claims(both(grid("a", lr=np.full(50, 1e-3)), *tuned), by="architecture")
    assert "alike" in one.against
    assert "4 trials per cell against 1 trial per cell" in found.of(one.about)[0].answer


def test_noise_leaves_it_open_and_names_the_runs_that_would_decide():
    (one,), _ = claims(both(grid("a", noise=0.3), grid("worse", noise=0.3)))
    assert (one.mark, one.numbers["answer"]) == ("cannot tell", "cannot tell")
    (run,) = one.runs
    assert sorted(run.at.values()) in ([1e10, 3e12], [3e10, 1e12])
    assert run.replicates == 2


def test_every_group_is_measured_against_the_first_and_by_names_the_column():
    table = both(grid("a"), grid("steeper"), grid("worse"))
    table["site"] = table.pop("architecture")
    found, _ = claims(table, by="site")
    assert [one.about for one in found] == ["site=steeper against site=a", "site=worse against site=a"]
    assert [one.numbers["answer"] for one in found] == ["exponent", "constant"]


def test_groups_that_nothing_compares_say_why():
    apart = grid("worse")
    (one,), _ = claims(both(grid("a"), {**apart, "n": apart["n"] * 1e6}))
    assert one.mark == "cannot tell" and "share no range" in one.why
    assert claims(grid("a"))[0] == []
    several = {**both(grid("a"), grid("worse")), "precision": np.repeat(["bf16", "fp32"], 50)}
    assert claims(several)[0] == []


def test_too_many_groups_are_not_compared(monkeypatch):
    monkeypatch.setattr(comparing, "MOST", 1)
    (one,), _ = claims(both(grid("a"), grid("worse")))
    assert (one.mark, one.about) == ("cannot tell", "architecture=a and architecture=worse")
    assert "2 groups are too many" in one.why


def test_a_comparison_has_the_form_that_is_audited_and_takes_an_axis_of_any_name():
    table = both(grid("a"), grid("worse"))
    table["model"] = table.pop("n")
    options = {"params": "model", "data": "d", "loss": "loss", "form": "tied"}
    (one,) = [c for c in cs.audit(table, **options).claims if c.kind == "comparison"]
    assert one.mark == "supported" and "tied with a floor per group" in one.statement


def test_data_seen_again_are_compared():
    table = both(grid("a"), grid("worse"))
    table["seen"] = table["d"] * np.tile([1, 4], 50)
    found, _ = claims(table, seen="seen", form="repeated")
    assert "repeated with a floor per group" in found[0].statement
