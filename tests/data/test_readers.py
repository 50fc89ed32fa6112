"""Which column of a table holds the strings, and whether its first line is one of them."""

import gzip

import pytest

from chemscale.data.readers import read_strings

SMILES = ("CCO", "c1ccccc1Br", "C[N+](C)(C)C")
SELFIES = ("[C][C][O]", "[C][=C][F].[Cl]")
PROTEINS = ("MKVLAAWWKDDEGHIKLMNPQ", "MKWYY")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("notation", "name", "strings"),
    [
        *(("smiles", name, SMILES) for name in ("molecule_smiles", "can_smiles", "structure", "ID", "Drug", "smiles")),
        ("selfies", "molecule", SELFIES),
        (None, "selfies", SELFIES),
        *(("protein", name, PROTEINS) for name in ("peptide", "Protein", "aa_seq")),
    ],
)
def test_the_name_of_an_only_column_is_no_string(tmp_path, suffix, notation, name, strings):
    path = tmp_path / f"some{suffix}"
    for newline in ("\n", "\r\n"):
        path.write_bytes(newline.join(("\ufeff" + name, *strings, "")).encode())
        assert list(read_strings(path, notation)) == list(enumerate(strings, start=2))


@pytest.mark.parametrize(
    ("notation", "strings"),
    [
        ("smiles", ("CCO", "C")),
        ("smiles", ("C1CC(", "CCO")),  # no molecule, as a model may well write it
        ("smiles", ("CCO", "", "C")),
        ("smiles", SELFIES),  # another notation, which is for the caller to refuse
        ("selfies", SELFIES),
        ("protein", PROTEINS),
        ("protein", (PROTEINS[0].lower(), "MKW*")),
    ],
)
def test_a_table_without_a_name_loses_no_string(tmp_path, notation, strings):
    path = tmp_path / "some.csv"
    path.write_text("\n".join(strings) + "\n")
    assert [text for _, text in read_strings(path, notation)] == list(strings)


def test_blank_lines_before_a_table_are_none_of_it(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("\n , \nname,smiles\na,CCO\n\n")
    assert list(read_strings(path)) == [(4, "CCO"), (5, "")]


@pytest.mark.parametrize("name", ["some.smi", "some.csv", "some.smi.gz"])
def test_a_file_of_utf_16_is_refused(tmp_path, name):
    path = tmp_path / name
    content = "smiles\nCCO\n".encode("utf-16")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match=r"some.*it is UTF-16; save it as UTF-8"):
        list(read_strings(path))
