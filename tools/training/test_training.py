"""Holds the data maker to the published numbers, and the fast forward pass to transformers. Run: python -m pytest, or python test_training.py."""

import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import corpus
import evaluate
import examples
import model as bert
import vocabulary

VOCABULARY_SIZE = 500


def invented(directory, seed=0, documents=40):
    """Arrays of two invented languages: ids at random, of every document its own, so that a segment tells where it is from."""
    generator = np.random.default_rng(seed)
    for name in ("aa", "bb"):
        arrays = {}
        for part in ("training", "validation"):
            lengths, counts, tokens = [], [200], []
            for _ in range(200):
                lengths.append(int(generator.integers(1, 30)))
                tokens.append(generator.integers(5, 100, lengths[-1]))
            for document in range(documents):
                counts.append(int(generator.integers(1, 40)))
                for _ in range(counts[-1]):
                    lengths.append(int(generator.integers(1, 40)))
                    tokens.append(np.full(lengths[-1], 100 + document))
            arrays |= {
                f"{part}.tokens": np.concatenate(tokens).astype(np.uint16), f"{part}.sentences": np.cumsum([0] + lengths),
                f"{part}.documents": np.cumsum([0] + counts), f"{part}.genres": np.array([-1] + [1, 2] * (documents // 2), np.int8),
            }  # fmt: skip
        np.savez(Path(directory) / f"{name}.npz", **arrays)
    return directory


DIRECTORY = tempfile.TemporaryDirectory()
PREPARED = invented(DIRECTORY.name)


def stream(seed=0, **options):
    return examples.Stream(PREPARED, ["aa", "bb"], seed=seed, batch_tokens=1024, **options)


@given(st.integers(0, 2**32), st.integers(20, 4000))
@settings(deadline=None)
def test_masking_is_15_80_10_10(seed, count):
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, VOCABULARY_SIZE, (1, count))
    corrupted, positions = examples.mask(ids, VOCABULARY_SIZE, generator)
    before, after = ids.reshape(-1), corrupted.reshape(-1)
    candidates = (before > examples.MASK).sum()
    assert len(positions) == len(set(positions)) == max(1, round(0.15 * candidates))
    assert (before[positions] > examples.MASK).all()
    changed = np.flatnonzero(before != after)
    assert set(changed) <= set(positions)
    assert ((after[changed] >= examples.MASK) & (after[changed] < VOCABULARY_SIZE)).all()


def test_fates_of_chosen_tokens():
    generator = np.random.default_rng(0)
    ids = generator.integers(5, VOCABULARY_SIZE, (100, 2000))
    corrupted, positions = examples.mask(ids, VOCABULARY_SIZE, generator)
    before, after = ids.reshape(-1)[positions], corrupted.reshape(-1)[positions]
    kept, masked = (before == after).mean(), (after == examples.MASK).mean()
    assert abs(masked - 0.8) < 0.01 and abs(kept - 0.1) < 0.01
    swapped = after[(after != before) & (after != examples.MASK)]
    assert swapped.min() > examples.MASK and len(set(swapped.tolist())) > 480  # any ordinary token


@given(st.integers(0, 2**32), st.sampled_from([32, 64, 128, 256, 512]), st.integers(0, 39))
@settings(deadline=None, max_examples=200)
def test_documents_become_pairs(seed, length, document):
    language = examples.Language(Path(PREPARED) / "aa.npz", "training")
    generator = random.Random(seed)
    document = int(language.ordered[document])
    own = 99 + document
    for a, b, label in examples.document_examples(language, document, length, generator):
        assert a and set(a) == {own}
        if label == examples.NO_LABEL:
            assert not b and len(a) + 2 <= length
            continue
        assert b and len(a) + len(b) + 3 <= length
        other = set(b).pop()
        assert (set(b) == {own}) == (label == examples.IS_NEXT)
        if label == examples.IS_RANDOM:
            # Another document, of the same kind.
            assert set(b) == {other} and (other - own) % 2 == 0


def test_half_of_the_pairs_follow_and_lengths_do_not_tell():
    language = examples.Language(Path(PREPARED) / "aa.npz", "training")
    made = evaluate.pairs(language, 128, 20_000)
    label = np.array([label for _, _, label in made])
    assert abs((label == examples.IS_NEXT).mean() - 0.5) < 0.02
    length = np.array([len(a) + len(b) for a, b, _ in made], float)
    truth = label == examples.IS_NEXT
    assert max(evaluate.best_threshold(length, truth), evaluate.best_threshold(-length, truth)) < 0.56


def test_batches():
    lengths, made = set(), stream()
    for _ in range(300):
        ids, types, labels = made.batch()
        lengths.add(ids.shape[1])
        assert ids.shape[1] <= 512 and ids.size >= 1024
        assert (ids[:, 0] == examples.CLS).all() and (ids[:, -1] == examples.SEP).all() and (ids != examples.PAD).all()
        for row, type_, label in zip(ids, types, labels):
            separators = np.flatnonzero(row == examples.SEP)
            assert len(separators) == (1 if label == examples.NO_LABEL else 2)
            # Type 1 from behind the first [SEP] on.
            assert (type_ == (np.arange(len(row)) > separators[0])).all()
    assert {128, 512} <= lengths


@given(st.integers(0, 1000), st.integers(0, 60))
@settings(deadline=None, max_examples=10)
def test_a_seed_gives_the_same_batches_and_a_state_continues_them(seed, before):
    one, other, resumed = stream(seed), stream(seed), stream(seed + 1)
    for _ in range(before):
        for x, y in zip(one.batch(), other.batch()):
            assert (x == y).all()
    resumed.restore(one.state())
    for _ in range(20):
        for x, y in zip(one.batch(), resumed.batch()):
            assert (x == y).all()


@given(st.lists(st.integers(0, 9), max_size=60), st.lists(st.integers(0, 9), max_size=60), st.integers(2, 80), st.integers(0, 9))
@settings(deadline=None)
def test_truncation_keeps_runs(a, b, room, seed):
    x, y = examples.truncate_pair(a, b, room, random.Random(seed))
    assert len(x) + len(y) == min(len(a) + len(b), room)
    for whole, part in ((a, x), (b, y)):
        assert any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def test_shares():
    shares = vocabulary.shares([1000, 10])
    assert abs(shares[0] / shares[1] - 100**0.7) < 1e-9 and abs(shares.sum() - 1) < 1e-12


def test_vocabulary():
    texts = {"en": ["The naïve café is open", "the Cafe is closed"] * 50, "zh": ["我们去北京", "北京很大"] * 50}
    pieces = vocabulary.learn(texts, 60, characters=4000)
    assert pieces == vocabulary.learn(texts, 60, characters=4000)
    assert pieces[:5] == vocabulary.SPECIAL and len(pieces) == len(set(pieces))
    tokenizer = vocabulary.tokenizer(pieces)
    split = tokenizer.encode("北京很大", add_special_tokens=False).tokens
    assert split == ["北", "京", "很", "大"]
    joined = "".join(piece.removeprefix("##") for piece in tokenizer.encode("naïve The", add_special_tokens=False).tokens)
    assert joined == "naïveThe"


def test_held_out_share():
    kept = sum(corpus.held_out(f"line {i}") for i in range(100_000))
    assert 850 < kept < 1150 and corpus.held_out("Line 5") == corpus.held_out("line 5")


def test_threshold():
    truth = np.array([True, True, False, False])
    assert evaluate.best_threshold(np.array([0.9, 0.8, 0.1, 0.0]), truth) == 1.0
    assert evaluate.best_threshold(np.zeros(4), truth) == 0.5


def test_forward_pass_is_the_reference():
    model = bert.create("tiny", VOCABULARY_SIZE).eval()
    ids = torch.randint(5, VOCABULARY_SIZE, (3, 40))
    types = (torch.arange(40) > 20).long().expand(3, 40)
    with torch.no_grad():
        reference = model(ids, token_type_ids=types)
        hidden = bert.encode(model, ids, types)
        scores = bert.predict(model, hidden, torch.arange(120))
        relation = bert.next_sentence(model, hidden)
    assert torch.allclose(reference.prediction_logits.reshape(120, -1), scores, atol=1e-4)
    assert torch.allclose(reference.seq_relationship_logits, relation, atol=1e-5)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "passed", flush=True)
