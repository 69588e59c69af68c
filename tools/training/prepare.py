"""Learns a vocabulary and writes the corpus as token ids, once, so that training only reads arrays.

    python prepare.py CORPUS PREPARED --size 12000 [--languages en fr ...] [--validation-out DIR]

PREPARED gets vocab.txt and LANG.npz (tokens uint16, sentence and document offsets, genre of each document; -1 marks
the one document that holds all unordered lines).
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np

import corpus
import vocabulary


def encode(tokenizer, lines, documents):
    """Arrays of one language and part: every sentence's ids end to end, with offsets. Empty lines are dropped."""
    groups = [(-1, lines)] + documents
    flat = [line for _, sentences in groups for line in sentences]
    tokens, lengths = [], []
    for start in range(0, len(flat), 20_000):
        for encoding in tokenizer.encode_batch(flat[start : start + 20_000], add_special_tokens=False):
            tokens.append(np.array(encoding.ids, np.uint16))
            lengths.append(len(encoding.ids))
    return {
        "tokens": np.concatenate(tokens) if tokens else np.zeros(0, np.uint16),
        "sentences": np.cumsum([0] + lengths).astype(np.int64),
        "documents": np.cumsum([0] + [len(sentences) for _, sentences in groups]).astype(np.int64),
        "genres": np.array([genre for genre, _ in groups], np.int8),
    }


def validation_lines(lines, documents, count=500):
    """A fixed sample: half unordered lines, half sentences of documents, where there are enough."""
    chooser = random.Random(0)
    ordered = [line for _, document in documents for line in document]
    chooser.shuffle(lines := list(lines))
    chooser.shuffle(ordered)
    half = count // 2
    unordered = lines[: max(half, count - len(ordered))]
    return unordered + ordered[: count - len(unordered)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--size", type=int, default=12_000)
    parser.add_argument("--coverage", type=float, default=0.9995, help="share of the characters that the alphabet covers")
    parser.add_argument("--languages", nargs="+", default=corpus.LANGUAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validation-out", type=Path, help="folder for LANG.txt (validation lines, one sentence a line) and LANG.docs.txt")
    arguments = parser.parse_args()
    started = time.time()
    languages = sorted(arguments.languages)
    parts = {language: corpus.load(arguments.corpus, language, arguments.seed) for language in languages}
    print(f"read {time.time() - started:.0f} s", flush=True)
    if arguments.validation_out:
        arguments.validation_out.mkdir(parents=True, exist_ok=True)
        for language in languages:
            chosen = validation_lines(*parts[language]["validation"])
            (arguments.validation_out / f"{language}.txt").write_text("".join(line + "\n" for line in chosen), encoding="utf-8")
            documents = ("\n".join(document) + "\n" for _, document in parts[language]["validation"][1])
            (arguments.validation_out / f"{language}.docs.txt").write_text("\n".join(documents), encoding="utf-8")
    texts = {
        language: parts[language]["training"][0] + [line for _, document in parts[language]["training"][1] for line in document]
        for language in languages
    }
    arguments.prepared.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary.learn(texts, arguments.size, coverage=arguments.coverage, seed=arguments.seed)
    vocabulary.write(arguments.prepared / "vocab.txt", pieces)
    print(f"vocabulary {len(pieces)} {time.time() - started:.0f} s", flush=True)
    tokenizer = vocabulary.tokenizer(pieces)
    for language in languages:
        arrays = {}
        for part, (lines, documents) in parts[language].items():
            for name, array in encode(tokenizer, lines, documents).items():
                arrays[f"{part}.{name}"] = array
        np.savez(arguments.prepared / f"{language}.npz", **arrays)
        tokens, unknown = arrays["training.tokens"], vocabulary.SPECIAL.index("[UNK]")
        unordered = arrays["training.sentences"][arrays["training.documents"][1]]
        print(
            f"{language} {len(tokens):,} tokens, {unordered:,} unordered, {(tokens == unknown).mean():.4%} unknown, "
            f"{len(arrays['training.genres']) - 1:,} documents {time.time() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
