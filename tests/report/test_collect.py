"""What the page says agrees with the laws that were planted in the store."""

import io
import re
from dataclasses import replace

import pytest

from chemscale.audit.groups import groups_of
from chemscale.laws import fit
from chemscale.laws.readings.slopes import TOO_SHORT
from chemscale.records import Store
from chemscale.report.collect import collect
from chemscale.report.fitted import laws_of
from chemscale.report.table import table
from tests.report.planted import ALL, CHEMGPT, INTERVAL, MISSES, PAINN, SCHNET, finish, plant, rows_of, spec


def named(found, entries, name):
    return next(one for one in getattr(found, entries) if one.name == name)


def numbers(text):
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", text)]


@pytest.mark.parametrize(
    ("law", "name", "scale"), [(CHEMGPT, "ChemGPT", 1), (PAINN, "PaiNN", 1000), (SCHNET, "SchNet", 1000)]
)
def test_ten_times_more_data_is_told_as_planted(found, law, name, scale):
    sentence = named(found, "headlines", name).sentence
    begin, end = (float(x) for x in re.search(r"from ([\d.]+) to ([\d.]+)", sentence).groups())
    top = law.params[-1], law.sizes[-1]
    assert begin == pytest.approx(scale * law.loss(top[0], top[1] / 10), rel=0.03)
    assert end == pytest.approx(scale * law.loss(*top), rel=0.03)
    assert "95 % interval" in sentence


def test_text_is_told_in_nats_per_molecule_too(found):
    assert any("nats per molecule" in line for line in named(found, "headlines", "ChemGPT").more)
    assert not any("nats" in line for line in named(found, "headlines", "PaiNN").more)


def test_the_next_tenfold_follows_the_planted_law(found):
    line = next(m for m in named(found, "headlines", "ChemGPT").more if m.startswith("The next 10 ×"))
    begin, end = (float(x) for x in re.search(r"molecules, from ([\d.]+) to ([\d.]+)", line).groups())
    assert begin == pytest.approx(CHEMGPT.loss(199_000, 100_000), rel=0.02)
    assert end == pytest.approx(CHEMGPT.loss(199_000, 1_000_000), rel=0.03)
    assert "extrapolation" in line


@pytest.mark.parametrize("law", ALL)
def test_predictions_are_scored_as_planted(found, law):
    name = law.model.architecture
    seen = next(one for one in found.foreseen if one.architecture == name)
    assert len(seen.measured) == 2
    mean = sum(seen.measured) / 2
    assert seen.off == pytest.approx(seen.predicted / mean - 1)
    assert seen.off == pytest.approx(MISSES[name], abs=0.012)
    assert seen.inside is (abs(MISSES[name]) < INTERVAL)
    side, where = ("high", "within") if MISSES[name] > 0 else ("low", "outside")
    assert f"{abs(100 * seen.off):.1f} % too {side}, {where} its interval" in seen.sentence


def test_predictions_of_runs_that_have_not_finished_say_so(tmp_path):
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, forecast=False)
    run = spec(PAINN, 32, 6_400)
    facts = {"architecture": "painn", "metric": "force_mae", "params": 92_000, "data": 6_400}
    store.register_forecast(run.id, {**facts, "value": 0.2, "low": 0.1, "high": 0.3, "level": 0.95})
    other = spec(PAINN, 64, 6_400)
    store.register_forecast(other.id, {**facts, "data": 12_800, "value": None, "reason": "no smaller run finished"})
    first, second = collect(store).foreseen
    sentences = {first.sentence, second.sentence}
    assert any("nothing measured yet (not started)" in s for s in sentences)
    assert any("no prediction could be made." in s for s in sentences)
    assert "No smaller run finished" in first.detail + second.detail


def test_exponents_are_called_only_where_the_axis_is_long_enough(found):
    rows = {(row[0].text, row[2].text): row for row in found.exponents.rows}
    long, short = rows["ChemGPT", "D, unique molecules"], rows["PaiNN", "D, unique structures"]
    assert (float(long[3].text), float(short[3].text)) == (2.0, 1.2)
    value, low, high = numbers(long[5].text)
    assert low < value < high
    assert TOO_SHORT not in long[5].text
    assert short[5].text == TOO_SHORT
    laws = {row[0].text: [entry.text for entry in row[4:]] for row in found.laws.rows}
    assert laws["PaiNN"][-2:] == [TOO_SHORT, TOO_SHORT]
    low, high = numbers(laws["ChemGPT"][-1])[1:]
    assert low <= CHEMGPT.beta <= high


def test_the_limiting_axis_is_the_planted_one(found):
    assert {one.name: one.answer for one in found.rulings}["PaiNN"] == "data-limited"


def test_without_replicates_and_with_noise_the_deciding_runs_are_named(tmp_path):
    store = Store(tmp_path / "store", create=True)
    even = replace(PAINN, A=2.4, alpha=0.3, B=1.2, beta=0.3)
    plant(store, even, noise=0.05, replicates=False, forecast=False)
    ruling = collect(store).rulings[0]
    assert ruling.answer == "cannot tell yet"
    assert ruling.would_decide
    assert all("parameters on" in line and "each" in line for line in ruling.would_decide)


def test_limits_name_labels_data_decades_seeds_and_failures(found):
    text = "\n".join(found.limits)
    assert "GFN2-xTB labels are not DFT" in text
    assert "MOSES is filtered ZINC" in text
    assert "PaiNN: 1.1 decades of parameters and 1.2 decades of structures, too short" in text
    assert "2 seeds in 4 of 16 cells" in text
    assert "Not finished: 1 diverged" in text
    assert "they say nothing of large models." in text


def test_a_store_with_nothing_finished_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        collect(Store(tmp_path / "store", create=True))
    assert "No run has finished" in str(table(Store(tmp_path / "store")))


def test_a_given_law_goes_to_the_runs_it_was_fitted_to(store):
    rows = store.runs(architecture="painn", status="finished")
    law = fit(rows, form="power", data="structures", loss="force_mae", bootstrap=50)
    groups = groups_of(rows_of(store))
    assert list(laws_of(groups, law)[0]) == ["painn-force-mae"]
    assert list(laws_of(groups, {"painn": law})[0]) == ["painn-force-mae"]
    table = [{"structures": n, "force_mae": n**-0.2} for n in (1, 2, 4, 8, 16)]
    stranger = fit(table, form="power", data="structures", loss="force_mae", bootstrap=50)
    with pytest.raises(ValueError, match="fitted to the runs of no architecture"):
        laws_of(groups, [law, stranger])
    with pytest.raises(ValueError, match="laws names 'nequip'"):
        laws_of(groups, {"nequip": law})


def test_metrics_can_be_chosen(store):
    groups = groups_of(rows_of(store), ("force_mae", "energy_mae"))
    assert [(g.name, g.metric) for g in groups] == [
        ("PaiNN", "energy_mae"), ("PaiNN", "force_mae"), ("SchNet", "energy_mae"), ("SchNet", "force_mae"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="metrics names 'loss'"):
        groups_of(rows_of(store), ("loss",))


def test_data_sets_are_kept_apart(tmp_path):
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, replicates=False, forecast=False)
    run = spec(PAINN, 8, 200)
    other = replace(run, data=replace(run.data, content="ee" * 32, source="mine.extxyz"))
    finish(store, PAINN, other, 7_400, 0.5)
    assert [g.title for g in groups_of(rows_of(store))] == ["PaiNN (fragments-gfn2)", "PaiNN (mine.extxyz)"]


def test_of_a_search_only_the_best_validated_trial_is_in_the_laws(tmp_path):
    store = Store(tmp_path / "store", create=True)
    plant(store, PAINN, replicates=False, forecast=False)
    run = spec(PAINN, 8, 200)
    worse = replace(run, optim=replace(run.optim, lr=1e-5))
    finish(store, PAINN, worse, 7_400, 0.9)
    (group,) = groups_of(rows_of(store))
    assert group.searched == 1
    assert worse.id not in {row["run_id"] for row in group.rows}
    assert worse.id in {row["run_id"] for row in group.others}


def test_the_terminal_table_holds_means_and_predictions(store):
    from rich.console import Console

    console = Console(width=300, record=True, file=io.StringIO())
    console.print(table(store))
    text = console.export_text()
    assert "PaiNN · force error, meV/angstrom · structures of fragments-gfn2 across" in text
    assert "253 ± 4 (2)" in text
    assert "too low, outside its interval" in text
