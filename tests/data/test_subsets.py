import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chemscale.data.subsets import digests, nested_order, permuted, scattered_order, split_of_groups

PRINT_ORDER = """
import numpy as np
from chemscale.data.subsets import digests, nested_order, split_of_groups
group = digests(f"group {i}" for i in range(50))
member = digests(f"member {i}" for i in range(200))
order = nested_order(np.arange(200), np.arange(200) // 4, group, member, key=7, per_group=3)
print(order.tolist(), split_of_groups(group).tolist())
"""


def made_up(groups: int, members: int) -> dict[str, np.ndarray]:
    return {
        "ids": np.arange(groups * members),
        "group": np.arange(groups * members) // members,
        "group_digest": digests(f"group {i}" for i in range(groups)),
        "member_digest": digests(f"member {i}" for i in range(groups * members)),
    }


@settings(max_examples=50, deadline=None)
@given(
    groups=st.integers(1, 40),
    members=st.integers(1, 5),
    key=st.integers(0, 2**70),
    per_group=st.none() | st.integers(1, 6),
    data=st.data(),
)
def test_a_small_subset_is_a_prefix_of_a_large_one(groups, members, key, per_group, data):
    order = nested_order(**made_up(groups, members), key=key, per_group=per_group)
    kept = min(members, per_group or members)
    assert len(order) == groups * kept
    assert len(set(order.tolist())) == len(order)
    small = data.draw(st.integers(0, len(order)))
    asked = nested_order(**made_up(groups, members), key=key, per_group=per_group, count=small)
    assert asked.tolist() == order[:small].tolist()
    touched = np.unique(order[:small] // members)
    assert len(touched) == -(-small // kept)  # whole groups, the last one perhaps in part


def test_the_limit_per_group_keeps_the_order_of_groups_and_the_first_members():
    whole = nested_order(**made_up(30, 4), key=3)
    two = nested_order(**made_up(30, 4), key=3, per_group=2)
    assert two.tolist() == whole.reshape(30, 4)[:, :2].ravel().tolist()


def test_the_order_depends_on_the_digests_and_not_on_where_examples_stand():
    data = made_up(20, 3)
    shuffle = np.random.default_rng(0).permutation(60)
    moved = {**data, "group": data["group"][shuffle], "member_digest": data["member_digest"][shuffle]}
    assert shuffle[nested_order(**moved, key=1)].tolist() == nested_order(**data, key=1).tolist()


def test_keys_and_purposes_give_independent_orders():
    values = digests(str(i) for i in range(4000))
    ranks = [np.argsort(np.argsort(permuted(values, p, k))) for p, k in (("order", 0), ("order", 1), ("split", 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        # a correlation of ranks of 4,000 independent pairs has a standard error of 0.016
        assert abs(np.corrcoef(ranks[one], ranks[other])[0, 1]) < 0.08


def test_splits_have_their_shares_and_stay_when_groups_are_added():
    many = digests(str(i) for i in range(20_000))
    split = split_of_groups(many)
    shares = np.bincount(split, minlength=3) / len(split)
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.01)  # five standard errors of 0.0028
    assert split_of_groups(many[:100]).tolist() == split[:100].tolist()


def test_golden_orders():
    data = made_up(10, 3)
    assert nested_order(**data, key=0)[:8].tolist() == GOLDEN_KEY_0
    assert nested_order(**data, key=1, per_group=1)[:8].tolist() == GOLDEN_KEY_1
    assert scattered_order(data["ids"], data["member_digest"], "valid")[:8].tolist() == GOLDEN_VALID
    assert split_of_groups(digests(str(i) for i in range(30))).tolist() == GOLDEN_SPLIT


def test_another_process_with_another_hash_seed_gives_the_same_order():
    outputs = set()
    for seed in ("0", "1"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p or "." for p in sys.path)}
        outputs.add(subprocess.check_output([sys.executable, "-c", PRINT_ORDER], env=env))
    assert len(outputs) == 1


def test_a_million_and_a_half_molecules_are_ordered_in_seconds():
    import time

    n = 1_600_000
    member = permuted(np.arange(n, dtype=np.uint64), "test")
    start = time.process_time()
    nested_order(np.arange(n), np.arange(n), member, member, key=0)
    assert time.process_time() - start < 10


GOLDEN_KEY_0 = [4, 5, 3, 10, 11, 9, 22, 21]
GOLDEN_KEY_1 = [24, 13, 1, 8, 27, 5, 22, 17]
GOLDEN_VALID = [25, 24, 4, 18, 2, 27, 0, 5]
GOLDEN_SPLIT = [0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
