"""Exported potentials: read back exactly without store or data, and run by torch alone with the same numbers."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

import chemscale as cs
from chemscale.cli import main
from chemscale.models import PaiNN, SchNet
from chemscale.spec import MODELS
from chemscale.use.find import trained_in
from chemscale.use.load import Trained, load
from chemscale.use.program import Program, traced
from chemscale.use.release import export_potential, is_release, read_release
from tests.models.batches import CUTOFF, MANIFEST, crystal, molecule
from tests.models.batches import module as small
from tests.train.runs import atoms_run, train

CELL = np.array([[4.1, 0.2, 0.0], [0.0, 4.3, 0.1], [0.3, 0.0, 4.6]])


@pytest.fixture(scope="module")
def stored(structures, tmp_path_factory):
    """A store with a small SchNet trained in float64, its run and the model."""
    run = atoms_run(structures, SchNet.sized(width=8, depth=1), precision="float64")
    store = train(run, tmp_path_factory.mktemp("store") / "s")
    return store, run, load(store, run.id)


def water():
    return Atoms("OH2", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


def test_reading_back_is_exact(stored, tmp_path):
    store, run, trained = stored
    out = export_potential(trained, tmp_path / "out", row=store.runs().to_pylist()[0], licence="mit", program="none")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    back = read_release(out)
    assert back.run == run
    assert back.manifest == trained.manifest
    assert all(torch.equal(a, b) for a, b in zip(back.module.state_dict().values(),
                                                 trained.module.state_dict().values(), strict=True))  # fmt: skip
    answers = [cs.calculator(source).evaluate_many([water()])[0] for source in (out, store)]
    assert answers[0].energy == answers[1].energy
    np.testing.assert_array_equal(answers[0].forces, answers[1].forces)


def test_the_card_tells_units_and_errors(stored, tmp_path):
    store, run, trained = stored
    row = store.runs().to_pylist()[0]
    card = (export_potential(trained, tmp_path / "out", row=row, program="none") / "README.md").read_text()
    assert "energies eV, forces eV/angstrom, stresses eV/angstrom^3" in card
    assert f"{row['law_loss']:.5g}" in card
    assert f"O {trained.manifest.reference[8]:.6g}" in card
    assert "torch.export" not in card
    assert run.id in card


def test_mistakes_are_one_sentence(stored, tmp_path):
    store, _, trained = stored
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(ValueError, match="is there and not empty"):
        export_potential(trained, tmp_path / "full", program="none")
    out = export_potential(trained, tmp_path / "out", program="none")
    with pytest.raises(ValueError, match="is an exported model; leave it"):
        trained_in(out, "1a2b", "structures")
    (out / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"does not hold the weights of config.json"):
        read_release(out)
    (out / "config.json").write_text(json.dumps({"kind": "chemscale potential", "version": 99}))
    with pytest.raises(ValueError, match="has layout 99, this chemscale reads up to 1"):
        read_release(out)
    assert not is_release(store.path)
    assert not is_release(tmp_path)


def test_a_folder_is_measured_like_its_run(stored, tmp_path, capsys):
    store, _, _ = stored
    assert main(["export", store.url, "--out", str(tmp_path / "out"), "--program", "none"]) == 0
    frames = []
    for k in range(3):
        atoms = water()
        atoms.rattle(0.05, seed=k)
        atoms.info["REF_energy"] = -100.0
        frames.append(atoms)
    write(tmp_path / "water.xyz", frames)
    capsys.readouterr()
    told = []
    for source in (store.url, str(tmp_path / "out")):
        assert main(["evaluate", source, str(tmp_path / "water.xyz"), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]
    assert told[0]["subsets"][0]["errors"]["force_mae"] is None


@pytest.mark.slow
def test_torch_alone_runs_the_program(stored, tmp_path):
    """In a process without this package: the energies, forces and stresses that the calculator gives, to rounding."""
    store, _, trained = stored
    out = export_potential(trained, tmp_path / "out")
    card = (out / "README.md").read_text()
    code = card.split("```python")[2].split("```")[0]
    atoms = Atoms("OH2", water().positions, cell=CELL, pbc=True)
    write(tmp_path / "cell.traj", atoms)
    script = f"""
import sys
from ase.io import read
FOLDER, atoms = {str(out)!r}, read({str(tmp_path / "cell.traj")!r})
{code}
assert "chemscale" not in sys.modules
print(energy.item(), *forces.flatten().tolist(), *stress.flatten().tolist())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    found = np.array(done.stdout.split(), dtype=float)
    atoms.calc = cs.calculator(store)
    assert found[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(found[1:10].reshape(3, 3), atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(found[10:].reshape(3, 3), atoms.get_stress(voigt=False), atol=1e-9)


@pytest.mark.slow
def test_a_program_takes_any_size():
    """A PaiNN in float64, traced with 7 atoms: crystals and molecules of other sizes, a lone atom too."""
    run = atoms_shape(PaiNN.sized(width=8, depth=1, cutoff=3.5))
    trained = Trained(run, small("painn", depth=1), MANIFEST)
    made = traced(trained).module()
    program = Program(trained.module, MANIFEST.reference)
    for batch in (crystal(CELL), crystal(CELL * 1.5, atoms=13, seed=2), crystal(CELL * 0.6, atoms=1)):
        given = batch.species, batch.positions, batch.pairs, batch.shifts
        for found, expected in zip(made(*given), program(*given), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    species, positions = molecule(1)
    none = torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 3, dtype=torch.float64)
    energy, forces, _ = made(torch.as_tensor(species).long(), torch.as_tensor(positions), *none)
    assert torch.isfinite(energy) and not forces.any()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["allegro", "cartesian", "dimenet", "nequip", "schnet", "spookynet"])
def test_other_models_become_programs(architecture):
    """`traced` itself holds the program against the model at three sizes."""
    shape = MODELS[architecture].sized(width=8, depth=1, cutoff=CUTOFF)
    traced(Trained(atoms_shape(shape), small(architecture, depth=1), MANIFEST))


def test_a_model_that_cannot_be_traced_says_so(monkeypatch):
    """One whose sizes depend on the numbers, which a graph for any structure cannot hold."""
    shape, module = SchNet.sized(width=8, depth=1, cutoff=CUTOFF), small("schnet", depth=1)
    energies = type(module).atomic_energies

    def near(self, batch, vectors, distances):
        kept = distances[distances < 2.0]
        return energies(self, batch, vectors, distances) + kept.new_zeros(len(kept)).sum()

    monkeypatch.setattr(type(module), "atomic_energies", near)
    with pytest.raises(ValueError, match=r"a schnet, cannot become a program for torch alone: .* --program none"):
        traced(Trained(atoms_shape(shape), module, MANIFEST))


def atoms_shape(model):
    from tests.test_spec import POTENTIAL

    return replace(POTENTIAL, model=model)
