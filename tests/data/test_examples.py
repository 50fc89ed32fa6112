import subprocess
import sys

import numpy as np
import pytest

from chemscale import data
from chemscale.models import ChemGPT
from chemscale.spec import Data


def test_a_batch_is_start_tokens_end_and_padding(moses):
    ids = moses.subset(64, 0, None)
    batch = moses.batch(ids)
    assert tuple(batch.tokens.shape) == (64, int(batch.lengths.max()))
    for row, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True):
        assert row[0] == 1
        assert row[length - 1] == 2
        assert all(t > 3 for t in row[1 : length - 1])
        assert set(row[length:]) <= {0}
    assert batch.lengths.tolist() == moses.lengths(ids).tolist()


def test_an_example_is_the_same_in_any_batch(moses):
    ids = moses.subset(40, 2, None)
    whole = moses.batch(ids)
    for k in (0, 17, 39):
        alone = moses.batch(ids[k : k + 1])
        assert alone.tokens[0].tolist() == whole.tokens[k, : int(whole.lengths[k])].tolist()


def test_counts_and_units_of_text_against_brute_force(moses):
    ids = moses.subset(300, 1, None)
    rows = moses.batch(ids).tokens.numpy()
    targets = int(np.sum(rows[:, 1:] > 0))
    assert moses.count(ids) == {"molecules": 300, "tokens": targets}
    inputs = np.sum((rows > 0) & (rows != 2), axis=1)
    assert moses.units(ids)["tokens"].tolist() == inputs.tolist()
    whole = moses.subset(None, 0, None)
    assert moses.count(whole)["tokens"] == moses.manifest.totals["tokens"]


def test_subsets_of_text_nest_and_replicates_differ(moses):
    large = moses.subset(10_000, 0, None)
    assert moses.subset(1_000, 0, None).tolist() == large[:1_000].tolist()
    shared = len(set(large.tolist()) & set(moses.subset(10_000, 1, None).tolist()))
    assert 800 < shared < 1200  # a tenth of a tenth of 100,000, six standard deviations of 30 each side


def test_sizes_larger_than_the_data_name_both_numbers(moses):
    with pytest.raises(ValueError, match=r"Data.size=200000 is not possible: there are 100,000 training examples"):
        moses.subset(200_000, 0, None)
    with pytest.raises(ValueError, match=r"Evaluation.test=6000 is not possible: there are 5,000 test examples"):
        moses.split("test", 6_000)


def test_a_context_that_is_too_short_names_the_number(moses):
    """Of the longest string, 51 tokens with start and end, all but the end are fed in."""
    assert moses.manifest.longest == 51
    says = r"context=40 is too short for [\d,]+ of 110,000 molecules.*use at least 50, .* \(Reading.longest=41\)"
    with pytest.raises(ValueError, match=says):
        data.open_data(Data("moses"), {"context": 40})
    longest = int(np.argmax(np.diff(moses.offsets)))
    batch = data.open_data(Data("moses"), {"context": 50}).batch(np.array([longest]))
    assert ChemGPT.sized(width=8, context=50).build(moses.manifest)(batch).shape[1] == 50


def test_a_view_of_the_other_family_is_refused(moses):
    with pytest.raises(ValueError, match="no positive 'context'"):
        data.open_data(Data("moses"), {"cutoff": 5.0})


@pytest.mark.parametrize("view", [{}, {"context": None}, {"context": 0}, {"context": float("nan")}])
def test_a_view_without_its_key_names_the_key_and_the_next_step(moses, view):
    with pytest.raises(ValueError, match=r"no positive 'context' \(tokens\), which data of family 'text' need; choose"):
        data.open_data(Data("moses"), view)


def test_content_that_differs_is_refused(moses):
    data.manifest(Data("moses", content=moses.manifest.content))
    with pytest.raises(ValueError, match=r"Data\.content=0000000000000000 is not what 'moses' holds"):
        data.manifest(Data("moses", content="0" * 64))


def test_opening_and_batching_import_no_rdkit(moses, shared_home):
    code = (
        "import sys; from chemscale.data import open_data; from chemscale.spec import Data\n"
        "assert 'torch' not in sys.modules\n"
        "e = open_data(Data('moses'), {'context': 64}); e.subset(10, 0, None)\n"
        "print(sorted({'rdkit', 'selfies', 'ray', 'ase', 'torch'} & set(sys.modules)))"
    )
    env = {"PYTHONPATH": ":".join(p or "." for p in sys.path), "CHEMSCALE_HOME": str(shared_home)}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() == "[]"


def test_buckets_of_equal_lengths_waste_little_and_packing_nothing(moses):
    """A global batch of 512, padded in forward passes of 16; packed, as it is by default."""
    from chemscale.sweep.tuning import padding

    ids = moses.subset(512, 0, None)
    fed = moses.lengths(ids) - 1
    assert padding(fed, 16) < 0.02
    packed = moses.batch(ids).packed()
    assert len(packed.inputs) == len(packed.targets) == fed.sum() == moses.count(ids)["tokens"]
