"""Builds and reports of strings killed before one after the other of their operations on files, then done again."""

import shutil

import pytest

from chemscale import data
from chemscale.data import molecules
from chemscale.data.moses import read_embedded
from chemscale.data.sources import embedded
from tests.kills import killed_at_each

pytestmark = pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(molecules, "_CHUNK", 30)
    rows = read_embedded(embedded("moses-test.parquet"))[0][:90]
    (tmp_path / "a.smi").write_text("\n".join([*rows, "C(", rows[0]]))
    return str(tmp_path / "a.smi")


def named(home):
    """What stands in the folders of what is built and of what is being built, locks aside."""
    return [p.name for p in (*home.glob("built/*"), *home.glob("building/*")) if p.suffix != ".lock"]


def test_a_build_killed_anywhere_is_absent_or_whole_and_ends_alike(every, home, file):
    def work():
        return data.build(file, processes=1, progress=False)

    expected, kills = work(), 0
    whole = named(home)
    shutil.rmtree(home)
    for kills, _ in enumerate(killed_at_each(work, home, every), 1):  # noqa: B007
        for folder in home.glob("built/[!.]*"):
            assert folder.name in whole
            data.verify(file)
        assert work() == expected
        data.verify(file)
        assert named(home) == whole
        shutil.rmtree(home)
    assert kills > 3


def test_a_report_killed_anywhere_says_the_same_again_and_keeps_nothing(every, home, file):
    def work():
        return data.report(file, processes=1, progress=False)

    expected, kills = work(), 0
    for kills, _ in enumerate(killed_at_each(work, home, every), 1):  # noqa: B007
        assert work() == expected
        assert named(home) == []
    assert kills >= 1
