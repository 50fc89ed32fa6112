"""Proteins through the door of molecules: FASTA, letters as tokens, splits by a group, and no RDKit on the way."""

import gzip
import json
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chemscale as cs
from chemscale import data
from chemscale.cli import main
from chemscale.data import fasta
from chemscale.records.store import Store
from chemscale.spec import Data, Reading

HYDROPHOBIC, POLAR = "AVLIMFWCGY", "DEKRHNQSTP"


def families(count=60, each=8):
    """Made-up families: hydrophobic and polar residues alternate as in an amphipathic helix, i, i + 3, i + 4, i + 7."""
    random = np.random.default_rng(0)
    for family in range(count):
        length = int(random.integers(20, 32))
        for member in range(each):
            letters = [random.choice(list(HYDROPHOBIC if i % 7 in (0, 3, 4) else POLAR)) for i in range(length)]
            yield f"P{family:03d}_{member}", f"F{family}", "".join(letters)


def write_fasta(path, rows, key="family"):
    wrapped = ["\n".join(s[i : i + 10] for i in range(0, len(s), 10)) for _, _, s in rows]
    text = "".join(f">{name} {key}={group} made up\n{s}\n" for (name, group, _), s in zip(rows, wrapped, strict=True))
    path.write_bytes(gzip.compress(text.encode())) if path.suffix == ".gz" else path.write_text(text)


def splits_of(examples, rows):
    of = {s: group for _, group, s in rows}
    seen = {}
    for name in ("train", "valid", "test"):
        ids = examples.subset(None, 0, None) if name == "train" else examples.split(name)
        for sequence in examples.text(ids):
            seen.setdefault(of[sequence], set()).add(name)
    return seen


def test_families_stay_in_one_split_and_sequences_come_back(home, tmp_path):
    rows = list(families())
    write_fasta(tmp_path / "a.fasta", rows)
    reading = Reading(groups="family")
    manifest = data.build(str(tmp_path / "a.fasta"), reading=reading, processes=1, progress=False)
    assert manifest.representation == "protein"
    assert manifest.vocabulary[4:] == tuple(sorted(HYDROPHOBIC + POLAR))
    source = Data(str(tmp_path / "a.fasta"), representation="protein", reading=reading)
    seen = splits_of(data.open_data(source, {"context": 64}), rows)
    assert len(seen) == 60
    assert all(len(splits) == 1 for splits in seen.values())
    assert {name for splits in seen.values() for name in splits} == {"train", "valid", "test"}


@pytest.mark.parametrize("header", [">{n}|family={g}|len=7", ">{n} note;family={g};seen={n}", ">{n} family={g} x"])
def test_a_value_ends_where_the_next_begins(tmp_path, header):
    path = tmp_path / "a.fasta"
    path.write_text("".join(header.format(n=f"p{i}", g=f"F{i % 2}") + "\nMKV\n" for i in range(4)))
    with path.open() as handle:
        assert [group for _, _, group, _ in fasta.read(path, handle, "family", None)] == ["F0", "F1", "F0", "F1"]


def as_tsv(folder, rows):
    (folder / "a.tsv").write_text("id\tsequence\tfamily\n" + "".join(f"{n}\t{s}\t{g}\n" for n, g, s in rows))
    return folder / "a.tsv", "family"


def as_parquet(folder, rows):
    names, groups, sequences = zip(*rows, strict=True)
    pq.write_table(pa.table({"id": names, "sequence": sequences, "family": groups}), folder / "a.parquet")
    return folder / "a.parquet", "family"


def as_clusters(folder, rows):
    """As MMseqs2 writes them: representative, member."""
    write_fasta(folder / "b.faa.gz", rows, key="n")
    (folder / "clusters.tsv").write_text("".join(f"{g}\t{n}\n" for n, g, _ in rows) + "\n")
    return folder / "b.faa.gz", str(folder / "clusters.tsv")


def as_named_table(folder, rows):
    write_fasta(folder / "c.fa", rows, key="n")
    (folder / "groups.csv").write_text("id,family\n" + "".join(f"{n},{g}\n" for n, g, _ in rows))
    return folder / "c.fa", str(folder / "groups.csv")


def as_headers(folder, rows):
    write_fasta(folder / "d.fasta", rows)
    return folder / "d.fasta", "family"


@pytest.mark.parametrize("write", [as_headers, as_tsv, as_parquet, as_clusters, as_named_table])
def test_every_kind_of_file_keeps_families_together(home, tmp_path, write):
    rows = list(families(count=40, each=3))
    path, groups = write(tmp_path, rows)
    how = {"representation": "protein", "reading": Reading(groups=groups)}
    manifest = data.build(str(path), processes=1, progress=False, **how)
    assert sum(manifest.counts.values()) == 120
    seen = splits_of(data.open_data(Data(str(path), **how), {"context": 64}), rows)
    assert all(len(splits) == 1 for splits in seen.values())


def test_a_command_reads_fasta_as_proteins_unless_told(home, tmp_path, capsys):
    write_fasta(tmp_path / "a.fasta", list(families(count=40, each=2)))
    assert data.representation_of(str(tmp_path / "a.fasta")) == "protein"
    given = ["train", "chemgpt", "--width", "8", "--data", str(tmp_path / "a.fasta"), "--updates", "1", "--json"]
    given += ["--set", "evaluation.points=1", "--store", str(tmp_path / "s")]
    assert main(given) == 0
    row = json.loads(capsys.readouterr().out)
    assert Store(tmp_path / "s").spec(row["run_id"]).data.representation == "protein"
    assert main([*given, "--set", "data.representation=smiles"]) == 2
    assert "does not suit a.fasta, which holds proteins; use 'protein'" in capsys.readouterr().err


def test_bad_sequences_are_listed_and_stops_and_lower_case_are_read(home, tmp_path):
    rows = [(n, g, s) for n, g, s in families(count=40, each=2)]
    odd = [("odd1", "F1", "MKV-LL"), ("odd2", "F2", rows[0][2].lower() + "*"), ("odd3", "F3", "MK1")]
    write_fasta(tmp_path / "a.fasta", [*odd, *rows])
    with (tmp_path / "a.fasta").open("a") as handle:
        handle.write(">empty family=F9\n")
    manifest = data.build(str(tmp_path / "a.fasta"), processes=1, progress=False)
    assert manifest.rejected == {"not an amino acid": 2, "empty sequence": 1, "duplicate": 1}
    built = data.report(str(tmp_path / "a.fasta"), processes=1, progress=False)
    lines = (tmp_path / "a.fasta").read_text().splitlines()
    heads = [i for i, line in enumerate(lines, start=1) if line.startswith((">odd1", ">odd3", ">empty"))]
    assert [row["line"] for row in built["first_rejected"]] == heads
    assert built["first_rejected"][0]["reason"] == "not an amino acid: '-' at position 4"
    assert built["duplicates"] == 1


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("MKVLAAGIV\n", {}, "is no FASTA file: line 1 comes before any '>'"),
        (">a\nMKV\n>b family=2\nMKL\n", {"reading": Reading(groups="family")}, "the header on line 1 of a.fasta has"),
        (">a\nMKV\n", {"representation": "selfies"}, "does not suit a.fasta, which holds proteins; use 'protein'"),
        (">a\nMKV\n", {"reading": Reading(groups="ids.tsv")}, "the table of groups has no id 'a'"),
        (">a\nMKV\n", {"reading": Reading(groups="bad.tsv")}, "bad.tsv, line 1 has 1 columns"),
    ],
)
def test_mistakes_are_one_clear_sentence(home, tmp_path, monkeypatch, text, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.fasta").write_text(text)
    (tmp_path / "ids.tsv").write_text("rep\tb\n")
    (tmp_path / "bad.tsv").write_text("b\n")
    with pytest.raises(ValueError, match=says) as caught:
        data.build("a.fasta", processes=1, progress=False, **options)
    assert "\n" not in str(caught.value)


def test_groups_by_id_are_found_whatever_the_order():
    ids = np.sort(np.array([fasta.digest(f"p{i}") for i in range(50)], dtype=np.uint64))
    members = fasta.Members(ids, np.arange(50, dtype=np.uint64))
    place = int(np.searchsorted(ids, np.uint64(fasta.digest("p7"))))
    assert members.group_of("p7") == f"{place:016x}"
    assert members.group_of("nobody") is None


def test_no_rdkit_and_no_selfies_on_the_way(tmp_path):
    write_fasta(tmp_path / "a.fasta", list(families(count=40, each=2)))
    code = (
        "import sys; from chemscale import data; from chemscale.spec import Data, Reading\n"
        "how = {'representation': 'protein', 'reading': Reading(groups='family')}\n"
        "data.report(sys.argv[1], processes=1, progress=False, **how)\n"
        "data.build(sys.argv[1], processes=1, progress=False, **how)\n"
        "e = data.open_data(Data(sys.argv[1], **how), {'context': 64}); e.text(e.subset(4, 0, None))\n"
        "print(sorted({'rdkit', 'selfies', 'ray'} & set(sys.modules)))"
    )
    env = {"PYTHONPATH": ":".join(p or "." for p in sys.path), "CHEMSCALE_HOME": str(tmp_path / "home")}
    said = subprocess.check_output([sys.executable, "-c", code, str(tmp_path / "a.fasta")], env=env, text=True)
    assert said.strip() == "[]"


@pytest.mark.slow
def test_a_small_model_learns_the_pattern_of_made_up_proteins(home, tmp_path):
    """A residue's kind follows from its place, its letter is one of ten: ln 10 = 2.30 nats is the best that can be had,
    ln 20 = 3.00 what the letters alone give.
    """
    from chemscale.train.complete import complete
    from chemscale.train.session import train_here

    rows = list(families(count=100, each=12))
    write_fasta(tmp_path / "a.fasta", rows)
    source = Data(str(tmp_path / "a.fasta"), representation="protein", reading=Reading(groups="family"))
    data.build(source.source, representation="protein", reading=source.reading, processes=1, progress=False)
    run = cs.RunSpec(
        model=cs.ChemGPT.sized(width=32),
        data=source,
        optim=cs.Optim(lr=6e-3, batch=32),
        budget=cs.Budget(updates=250),
        evaluation=cs.Evaluation(points=2),
    )
    row = train_here(complete(run), cs.Store(tmp_path / "runs", create=True), cs.Resources())
    assert math.log(10) - 0.15 < row["law_loss"] < 2.65  # the end token, which a third of lengths foretell, costs less
