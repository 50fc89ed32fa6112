import pytest

from chemscale import data
from chemscale.data.moses import read_embedded
from chemscale.data.notation import looks_like
from chemscale.data.sources import embedded
from chemscale.spec import Reading

ROWS = ["CCO", "OCC", "c1ccccc1Br", "C[C@H](O)F", "[Na+].[Cl-]", "rubbish", "", "C1CC", "CCO", "CC(=O)O", "NCCN"]


def told(path, rows, **options):
    path.write_text("\n".join(rows))
    return data.report(str(path), processes=1, progress=False, **options)


def test_a_report_counts_by_hand(home, tmp_path):
    found = told(tmp_path / "a.smi", ROWS)
    assert (found["records"], found["examples"], found["duplicates"], found["groups"]) == (11, 8, 2, 6)
    assert found["rejected"] == {"not a SMILES string": 2, "empty line": 1}
    assert [row["line"] for row in found["first_rejected"]] == [6, 7, 8]
    assert found["elements"] == {"C": 7, "O": 5, "Br": 1, "F": 1, "Na": 1, "Cl": 1, "N": 1}
    assert found["tokens"]["[C]"] == 3 * 2 + 3 + 2 + 3 + 2  # three ethanols; a branch of length 1 adds one
    lengths = {"mean": (3 * 4 + 4 + 6 + 6 + 9) / 8 + 2, "q50": 5, "q90": 11, "q99": 11, "longest": 11, "unit": "tokens"}
    assert found["lengths"] == lengths
    assert (found["coverage"], found["built"], found["removed"]) == (None, None, {})
    assert not (home / "built").exists()


def test_coverage_names_what_a_vocabulary_does_not_know(home, tmp_path):
    found = told(tmp_path / "a.smi", ROWS, reading=Reading(vocabulary="chemgpt-selfies1"))["coverage"]
    assert found["unknown"] == {"[C@H1]": 1, ".": 1}
    assert found["in_pieces"] == {"[Na+1]": 1, "[Cl-1]": 1}
    assert found["examples_known"] == 6 / 8
    assert found["tokens_known"] == pytest.approx(1 - 4 / 37)
    parent = told(tmp_path / "a.smi", ROWS, reading=Reading(vocabulary="chemgpt-selfies1", form="parent"))
    assert parent["coverage"]["unknown"] == {}
    assert parent["removed"] == {"other fragments": 1, "stereochemistry": 1}


def test_a_report_says_what_a_build_then_finds(home, tmp_path):
    rows = [*read_embedded(embedded("moses-test.parquet"))[0][:400], *ROWS]
    found = told(tmp_path / "a.smi", rows)
    manifest = data.build(str(tmp_path / "a.smi"), processes=1, progress=False)
    assert found["rejected"] == {k: n for k, n in manifest.rejected.items() if k != "duplicate"}
    assert found["duplicates"] == manifest.rejected["duplicate"]
    assert found["lengths"]["longest"] == manifest.longest
    assert found["examples"] - found["duplicates"] == sum(manifest.counts.values())
    assert data.report(str(tmp_path / "a.smi"), processes=1, progress=False)["built"]["content"] == manifest.content


def test_a_sample_is_spread_over_the_file_and_close_to_the_whole(home, tmp_path):
    rows = read_embedded(embedded("moses-test.parquet"))[0][:2000]
    whole, part = told(tmp_path / "a.smi", rows), told(tmp_path / "a.smi", rows, sample=500)
    assert 400 < part["records"] < 600  # a binomial of mean 500 and deviation 19
    assert abs(part["lengths"]["mean"] - whole["lengths"]["mean"]) < 1.5  # five standard errors of 5.6 / sqrt(500)


def test_duplicates_are_counted_on_disk_as_in_memory(home, tmp_path, monkeypatch):
    rows = read_embedded(embedded("moses-test.parquet"))[0][:300]
    few = told(tmp_path / "a.smi", [*rows, *rows[:40]])
    monkeypatch.setattr("chemscale.data.survey._AT_A_TIME", 50)
    monkeypatch.setattr("chemscale.data.molecules._CHUNK", 30)
    assert told(tmp_path / "a.smi", [*rows, *rows[:40]]) == few
    assert (few["duplicates"], few["groups"]) == (40, 300)


def test_the_embedded_set_is_told_without_reading_it_again(home):
    found = data.report("moses", reading=Reading(vocabulary="chemgpt-selfies2"), progress=False)
    assert (found["examples"], found["duplicates"], len(found["tokens"])) == (110_000, 0, 25)
    assert found["sample"] is None  # all is looked at, whatever was asked for
    assert found["coverage"]["tokens_known"] == 1
    assert found["elements"]["C"] == 110_000


def test_wrong_notation_is_one_clear_sentence(home, tmp_path):
    selfies = ["[C][C][O]", "[C][=C][C][=C][C][=C][Ring1][=Branch1]", "[C][O][C]", "[N][C][C]"]
    proteins = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFKLMNPQ"]
    cases = [
        (selfies, {}, r"holds SELFIES \('\[C\]\[C\]\[O\]' on line 1\) where SMILES are expected; use Reading\("),
        (ROWS, {"reading": Reading(notation="selfies")}, "holds SMILES .'CCO' on line 1. where SELFIES are expected"),
        (proteins, {}, r"holds protein sequences .* where SMILES are expected; use Data\(representation='protein'\)"),
        (["c1ccccc1Br", "CC(=O)O"] * 9, {"representation": "protein"}, "holds SMILES .* where protein sequences are"),
    ]
    for number, (rows, options, says) in enumerate(cases):
        for act in (data.build, data.report):
            path = tmp_path / f"{number}.txt"
            path.write_text("\n".join(rows))
            with pytest.raises(ValueError, match=says) as caught:
                act(str(path), processes=1, progress=False, **options)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[Na+].[Cl-]", "smiles"), ("[C][C][O]", "selfies"), ("CCCCCCCCCCCC", "smiles"), ("MKTAYIAKQRQISFV", "protein"),
     ("[O-][N+](=O)C", "smiles"), ("[C].[C][C][C]", "selfies"), ("NCCNCCNCCNCCN", "smiles"), ("CCOCCSCCFC", "smiles")],
)  # fmt: skip
def test_notation_is_told_from_one_string(text, kind):
    assert looks_like(text) == kind
