"""ChemGPT against the released table, Hugging Face's GPT-Neo, and what a causal model must be."""

import pytest
import torch
from torch.nn import functional

from chemscale.batch import AtomicManifest, TextManifest, TokenBatch
from chemscale.models.chemgpt import ChemGPT
from chemscale.models.mixing import Strings

TABLE = [  # width, non-embedding, all; vocabulary 684
    (16, 77_600, 121_312),
    (32, 302_656, 390_080),
    (64, 1_195_136, 1_369_984),
    (128, 4_749_568, 5_099_264),
    (256, 18_936_320, 19_635_712),
    (512, 75_621_376, 77_020_160),
    (1024, 302_237_696, 305_035_264),
    (2048, 1_208_455_168, 1_214_050_304),
]
MODELS = [
    ChemGPT.sized(width=8),
    ChemGPT.sized(width=64),
    ChemGPT.sized(width=24),
    ChemGPT(width=32, depth=3, heads=2, context=64, window=7, attention_scale=1.0, tied=False),
    ChemGPT.sized(width=16, shape="chemgpt"),
]
CLOSE = {torch.float32: 1e-5, torch.float64: 1e-12}  # logits are of order one, and sums have up to 256 terms


def manifest(vocabulary=30):
    names = tuple(f"[{i}]" for i in range(vocabulary))
    return TextManifest("toy", "text", "0", 1, {}, {}, vocabulary=names)


def tokens(rows, length, vocabulary=30, seed=0):
    made = torch.randint(4, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))
    return TokenBatch(made, torch.full((rows,), length))


def built(config, vocabulary=30, dtype=torch.float32):
    torch.manual_seed(0)
    return config.build(manifest(vocabulary)).to(dtype).eval()


@pytest.mark.parametrize(("width", "non_embedding", "everything"), TABLE)
def test_parameters_are_those_of_the_released_models(width, non_embedding, everything):
    with torch.device("meta"):
        module = ChemGPT.sized(width=width, shape="chemgpt").build(manifest(684))
    counts = {name: sum(p.numel() for p in group) for name, group in module.parameter_groups().items()}
    assert sum(counts.values()) == everything == sum(p.numel() for p in module.parameters())
    assert everything - counts["embedding"] == non_embedding


@pytest.mark.parametrize("config", MODELS)
def test_groups_hold_every_parameter_once(config):
    module = built(config)
    grouped = [id(p) for group in module.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in module.parameters())


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("config", MODELS)
def test_logits_do_not_depend_on_later_tokens(config, dtype):
    module, batch = built(config, dtype=dtype), tokens(2, 20)
    later = batch.tokens.clone()
    later[:, 9:] = (later[:, 9:] + 1) % 30
    with torch.no_grad():
        one, other = module(batch), module(TokenBatch(later, batch.lengths))
    torch.testing.assert_close(one[:, :9], other[:, :9], rtol=0, atol=CLOSE[dtype])
    assert (one[:, 9:] - other[:, 9:]).abs().max() > 1e-3


@pytest.mark.parametrize("config", MODELS)
def test_a_loss_does_not_depend_on_the_batch(config):
    module, alone = built(config), tokens(1, 15)
    padded = tokens(4, 40, seed=1).tokens
    padded[2] = functional.pad(alone.tokens[0], (0, 25))  # the pad token is 0
    with torch.no_grad():
        one = module(alone)[0]
        among = module(TokenBatch(padded, torch.tensor([40, 40, 15, 40])))[2, :14]
    losses = [functional.cross_entropy(logits, alone.tokens[0, 1:]) for logits in (one, among)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("config", MODELS)
def test_stepping_through_the_cache_is_the_forward_pass(config, dtype):
    module, batch = built(config, dtype=dtype), tokens(3, 30)
    cache, stepped = module.start_cache(3, 29), []
    with torch.no_grad():
        for at in range(29):
            logits, cache = module.step(batch.tokens[:, at], cache)
            stepped.append(logits)
        torch.testing.assert_close(torch.stack(stepped, 1), module(batch), rtol=0, atol=CLOSE[dtype])
    with pytest.raises(ValueError, match="cache holds 29 tokens and is full"):
        module.step(batch.tokens[:, 0], cache)


def test_rows_that_leave_the_cache_do_not_change_the_others():
    module, batch = built(ChemGPT.sized(width=16)), tokens(4, 12)
    cache, kept = module.start_cache(4, 12), torch.tensor([0, 3])
    with torch.no_grad():
        for at in range(6):
            _, cache = module.step(batch.tokens[:, at], cache)
        fewer, _ = module.step(batch.tokens[kept, 6], cache.rows(kept))
        logits, _ = module.step(batch.tokens[:, 6], cache)
    torch.testing.assert_close(fewer, logits[kept], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [40, 300])
def test_logits_are_those_of_hugging_face(length):
    transformers = pytest.importorskip("transformers")
    width, vocabulary = 64, 684
    shape = transformers.GPTNeoConfig(
        vocab_size=vocabulary, hidden_size=width, num_layers=24, num_heads=16, bos_token_id=2, eos_token_id=3,
        attention_types=[[["global", "local"], 12]], window_size=256, max_position_embeddings=2048,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.GPTNeoForCausalLM(shape).eval()
    ours = built(ChemGPT.sized(width=width, shape="chemgpt"), vocabulary)
    names = {
        k.removeprefix("transformer.").replace("attn.attention.", "attn."): v for k, v in theirs.state_dict().items()
    }
    wanted = ours.state_dict().keys()
    ours.load_state_dict({k: v for k, v in names.items() if k in wanted}, strict=True)
    batch = tokens(2, length + 1, vocabulary)
    with torch.no_grad():
        expected = theirs(input_ids=batch.tokens[:, :-1]).logits
        torch.testing.assert_close(ours(batch), expected, rtol=0, atol=1e-5)
    assert names.keys() - wanted <= {"lm_head.weight"} | {k for k in names if k.endswith(("bias", "masked_bias"))}


def test_a_window_is_as_long_as_it_says():
    module = built(ChemGPT(width=16, depth=2, heads=2, window=4))
    attention, x = module.h[1].attn, torch.randn(12, 16)
    moved, strings = x.clone(), Strings(torch.tensor([12]), torch.arange(12), 12)
    moved[3] += 1.0
    changed = (attention(x, strings) - attention(moved, strings)).abs().amax(1) > 1e-6
    assert changed.nonzero()[:, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("config", MODELS)
def test_it_starts_near_the_uniform_guess_and_every_parameter_learns(config):
    module, batch = built(config), tokens(8, 33)
    loss = functional.cross_entropy(module(batch).flatten(0, 1), batch.tokens[:, 1:].flatten())
    loss.backward()
    assert abs(loss.item() - torch.tensor(30.0).log().item()) < 1.0
    unused = {name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not unused


def test_it_runs_without_memory_on_the_meta_device():
    with torch.device("meta"):
        module = ChemGPT.sized(width=2048, shape="chemgpt").build(manifest(684))
        batch = TokenBatch(torch.zeros(4, 513, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    assert module(batch).shape == (4, 512, 684)


def test_balanced_shapes_exist_at_every_width():
    shapes = {w: ChemGPT.sized(width=w) for w in (4, 8, 16, 17, 100, 128, 512, 2048)}
    assert all(c.width % c.heads == 0 and c.depth >= 4 for c in shapes.values())
    assert [shapes[w].heads for w in (8, 16, 128)] == [1, 1, 8]
    assert [shapes[w].depth for w in (8, 128, 512, 2048)] == [4, 4, 8, 32]
    assert ChemGPT.sized(width=64, context=300).view == {"context": 300}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            lambda: ChemGPT.sized(width=100, shape="chemgpt"),
            "width=100 is not a multiple of heads=16; use width 96 or 112",
        ),
        (lambda: ChemGPT.sized(width=0), "width=0 is not allowed"),
        (lambda: ChemGPT.sized(width=64, shape="tall"), "balanced or chemgpt"),
        (lambda: ChemGPT(window=0), "window=0 is not allowed"),
        (lambda: ChemGPT(activation="relu"), "use gelu or gelu_new"),
        (lambda: ChemGPT().build(AtomicManifest("qm", "structures", "0", 1, {}, {})), "'qm' holds structures"),
        (lambda: built(ChemGPT(context=8))(tokens(1, 10)), "context=8 is too short for 9 tokens"),
    ],
)
def test_a_mistake_is_one_clear_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
