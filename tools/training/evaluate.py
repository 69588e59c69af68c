"""Measures a model directory on validation text, in fp32 and with fixed seeds.

    python evaluate.py MODEL PREPARED --validation DIR --out figures.json

Masked language model: top-1 on the lines of DIR/LANG.txt, `[CLS] line [SEP]`, 15 % of the tokens chosen. Next sentence: pairs of at
most 128 tokens from the documents kept out, beside what word overlap alone reaches.
"""

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from transformers import BertForPreTraining

import examples
import model as bert
import vocabulary
from corpus import LANGUAGES


def by_length(items, batch_tokens=4096):
    """Lists of items with equally long ids."""
    groups = defaultdict(list)
    for item in items:
        groups[len(item[0])].append(item)
    for length in sorted(groups):
        group, size = groups[length], max(1, batch_tokens // length)
        for start in range(0, len(group), size):
            yield group[start : start + size]


@torch.no_grad()
def masked_accuracy(model, tokenizer, lines, size, seed=0, passes=2):
    """(hits, predictions) over all chosen tokens of the lines."""
    longest = min(model.config.max_position_embeddings, 512)
    items = [([examples.CLS, *e.ids[: longest - 2], examples.SEP], 0, -1) for e in tokenizer.encode_batch(lines, add_special_tokens=False) if e.ids]
    generator, hits, total = np.random.default_rng(seed), 0, 0
    for _ in range(passes):
        for group in by_length(items):
            ids = np.array([ids for ids, _, _ in group])
            if not (ids > examples.MASK).any():
                continue
            corrupted, positions = examples.mask(ids, size, generator)
            hidden = bert.encode(model, torch.from_numpy(corrupted), torch.zeros_like(torch.from_numpy(ids)))
            predicted = bert.predict(model, hidden, torch.from_numpy(positions)).argmax(-1).numpy()
            hits += int((predicted == ids.reshape(-1)[positions]).sum())
            total += len(positions)
    return hits, total


def pairs(language, length, count, seed=0):
    """Up to `count` labelled examples of a language's documents, both labels."""
    generator, made = random.Random(seed), []
    for _ in range(40):  # few documents are cut up again and again, each time elsewhere
        order = language.ordered.tolist()
        generator.shuffle(order)
        for document in order:
            made += [e for e in examples.document_examples(language, document, length, generator) if e[2] != examples.NO_LABEL]
            if len(made) >= count:
                return made[:count]
    return made


@torch.no_grad()
def follows(model, made):
    """For each pair, the score by which the model takes B to follow A."""
    items = [([examples.CLS, *a, examples.SEP, *b, examples.SEP], len(a) + 2, i) for i, (a, b, _) in enumerate(made)]
    scores = np.zeros(len(made))
    for group in by_length(items):
        ids, types, which = examples.collate(group)
        relation = bert.next_sentence(model, bert.encode(model, torch.from_numpy(ids), torch.from_numpy(types)))
        scores[which] = (relation[:, examples.IS_NEXT] - relation[:, examples.IS_RANDOM]).numpy()
    return scores


def words(ids, pieces):
    """The set of a segment's words, pieces joined."""
    joined = " ".join(pieces[i] for i in ids).replace(" ##", "")
    return {word for word in joined.split() if any(map(str.isalpha, word))}


def overlap(made, pieces):
    """For each pair, the share of B's words that A holds too: the Jaccard index."""
    found = []
    for a, b, _ in made:
        a, b = words(a, pieces), words(b, pieces)
        found.append(len(a & b) / max(len(a | b), 1))
    return np.array(found)


def best_threshold(scores, truth):
    """The accuracy of `score > threshold` at its best threshold: a generous baseline, since it sees the answers."""
    order = np.argsort(-scores, kind="stable")
    cumulative = np.cumsum(np.where(truth[order], 1, -1))
    boundary = np.append(scores[order][1:] != scores[order][:-1], True)
    return ((~truth).sum() + max(0, cumulative[boundary].max())) / len(truth)


def evaluate(model, pieces, prepared, validation, languages, length=128, count=2000):
    model = model.float().eval()
    tokenizer = vocabulary.tokenizer(pieces)
    figures = {}
    for name in languages:
        lines = (validation / f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
        hits, total = masked_accuracy(model, tokenizer, lines, len(pieces))
        made = pairs(examples.Language(prepared / f"{name}.npz", "validation"), length, count)
        truth = np.array([label == examples.IS_NEXT for _, _, label in made])
        figures[name] = {
            "lines": len(lines), "predictions": total, "mlm": hits / total, "pairs": len(made),
            "nsp": float(((follows(model, made) > 0) == truth).mean()), "overlap": float(best_threshold(overlap(made, pieces), truth)),
        }  # fmt: skip
    figures["mean"] = {key: float(np.mean([figures[name][key] for name in languages])) for key in ("mlm", "nsp", "overlap")}
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=LANGUAGES)
    parser.add_argument("--length", type=int, default=128, help="of the next-sentence examples, in tokens")
    parser.add_argument("--pairs", type=int, default=2000, help="per language")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    pieces = vocabulary.read(arguments.model / "vocab.txt")
    model = BertForPreTraining.from_pretrained(arguments.model, dtype=torch.float32)
    figures = evaluate(model, pieces, arguments.prepared, arguments.validation, arguments.languages, arguments.length, arguments.pairs)
    print(f"{'':6}{'MLM':>8}{'NSP':>8}{'overlap':>9}")
    for name, row in figures.items():
        print(f"{name:6}{row['mlm']:8.3f}{row['nsp']:8.3f}{row['overlap']:9.3f}")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
