"""A grid read slice by slice, as Frey et al. 2023 do: planted exponents and the data-limited region are found."""

import json

import numpy as np
import pytest

from chemscale.cli import main
from chemscale.laws import sliced
from tests.laws.planted import grid

SIZES, AMOUNTS = np.geomspace(1e4, 1e9, 8), np.geomspace(1e2, 1e7, 6)


def rising(noise=0.0, repeats=1, seed=0):
    """L = 9 N^-(0.02 log10 D): an exponent of 0.04 at a hundred molecules, of 0.14 at ten million."""
    table = grid(
        SIZES, AMOUNTS, law=lambda n, d: 9 * n ** (-0.02 * np.log10(d)), noise=noise, repeats=repeats, seed=seed
    )
    return {"params": table["params"], "molecules": table["tokens"], "nats_per_token": table["loss"]}


def sums(**options):
    """L = 20 / N^0.3 + 30 / D^0.3: whichever term is larger says what limits a cell."""
    table = grid(SIZES, AMOUNTS, E=0.0, A=20.0, B=30.0, alpha=0.3, beta=0.3, **options)
    return {"params": table["params"], "molecules": table["tokens"], "nats_per_token": table["loss"]}


def test_exponents_of_every_slice_come_back_exactly():
    found = sliced(rising(), loss="nats_per_token")
    assert [part.data for part in found.slices] == pytest.approx(AMOUNTS)
    assert [part.exponent for part in found.slices] == pytest.approx(0.02 * np.log10(AMOUNTS))
    assert [part.amplitude for part in found.slices] == pytest.approx([9.0] * 6)
    assert "from 0.04 at 100 to 0.14 at 1e+07 molecules" in found.trend


def test_intervals_cover_the_truth():
    """Of 6 slices in 40 noisy grids 95 % intervals hold the truth; the surface's own misfit makes them wider."""
    inside = [
        part.interval[0] <= 0.02 * np.log10(part.data) <= part.interval[1]
        for seed in range(40)
        for part in sliced(rising(0.02, repeats=2, seed=seed), loss="nats_per_token").slices
    ]
    assert np.mean(inside) >= 0.93  # 240 cases: three standard errors below 0.95 is 0.91


def test_the_data_limited_region_is_where_data_buy_more():
    found = sliced(sums(), loss="nats_per_token")
    assert len(found.cells) == 48
    for cell in found.cells:
        parts = 20 / cell.params**0.3, 30 / cell.data**0.3
        if max(parts) > 4 * min(parts):  # away from the border, of which differences over neighbours know less
            assert cell.regime == ("data-limited" if parts[1] > parts[0] else "model-limited"), cell
    first, last = found.slices[0], found.slices[-1]
    assert first.limited > last.limited
    assert first.free is None  # fewer than three sizes are left at a hundred molecules
    assert first.exponent < 0.1 < last.exponent < last.free < 0.3


def test_noise_leaves_the_border_open():
    open_cells = [
        sum(cell.regime == "cannot tell" for cell in sliced(sums(noise=noise), loss="nats_per_token").cells)
        for noise in (1e-4, 0.2)
    ]
    assert open_cells[0] < open_cells[1]


def test_one_slice_and_holes_are_read_too():
    table = rising()
    one = sliced(table, loss="nats_per_token", where="molecules == 100")
    assert [part.data for part in one.slices] == [100]
    assert "one amount of data" in one.trend and {cell.regime for cell in one.cells} == {"cannot tell"}
    holes = sliced(table, loss="nats_per_token", where="params > 2e4 or molecules > 1e4")
    assert len(holes.cells) == 45
    with pytest.raises(ValueError, match="a slope needs two values"):
        sliced(table, loss="nats_per_token", where="params < 2e4")


@pytest.fixture
def csv(tmp_path):
    table = rising(0.01, repeats=2)
    path = tmp_path / "runs.csv"
    rows = zip(table["params"], table["molecules"], table["nats_per_token"], strict=True)
    path.write_text("n,d,loss\n" + "\n".join(",".join(f"{v:.9g}" for v in row) for row in rows) + "\n")
    return str(path)


def test_the_command_reads_any_table(csv, capsys):
    given = ["fit", csv, "--params", "n", "--data", "d", "--loss", "loss", "--form", "sliced"]
    assert main([*given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["form"] == "sliced" and len(said["slices"]) == 6 and len(said["cells"]) == 48
    assert said["slices"][-1]["exponent"] == pytest.approx(0.14, abs=0.01)
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "without floor" in out and "The exponent goes from" in out and "data-limited" in out
    assert main([*given, "--by", "d"]) == 2
    assert (
        "--by says nothing with --form sliced, which reads params, data and loss; leave it out."
        in capsys.readouterr().err
    )
