"""Training examples as the published procedure makes them, streamed, seeded and resumable.

`[CLS] A [SEP] B [SEP]` where B follows A with probability 0.5 and is otherwise a segment of another document of the same
language and kind; unordered lines, and documents that leave a single sentence, become `[CLS] A [SEP]` without a next-sentence
label. Examples of one exact length make a batch, so there is no padding and no attention mask.
"""

import random
from pathlib import Path

import numpy as np

from vocabulary import shares

PAD, UNK, CLS, SEP, MASK = range(5)
NO_LABEL, IS_NEXT, IS_RANDOM = -1, 0, 1  # the classes of the reference's next-sentence head
MASKED_SHARE = 0.15


class Language:
    """The arrays of one language and part, and the order in which they are visited."""

    def __init__(self, path, part):
        with np.load(path) as arrays:
            self.tokens, self.sentences, self.documents, self.genres = (
                arrays[f"{part}.{name}"] for name in ("tokens", "sentences", "documents", "genres")
            )
        self.unordered = int(self.documents[1])
        self.ordered = np.flatnonzero(self.genres >= 0)
        self.kin = {genre: np.flatnonzero(self.genres == genre) for genre in set(self.genres[self.ordered].tolist())}
        self.unordered_tokens = int(self.sentences[self.unordered])
        self.ordered_tokens = len(self.tokens) - self.unordered_tokens

    def sentence(self, index):
        return self.tokens[self.sentences[index] : self.sentences[index + 1]].tolist()

    def document(self, index):
        return range(int(self.documents[index]), int(self.documents[index + 1]))


class Cursor:
    """Visits 0..count in a new random order each time round."""

    def __init__(self, count, random_):
        self.count, self.random, self.order = count, random_, []

    def next(self):
        if not self.order:
            self.order = list(range(self.count))
            self.random.shuffle(self.order)
        return self.order.pop()


def truncate_pair(a, b, room, random_):
    """Shortens the longer segment, from its front or its back at random, until both fit."""
    a, b = list(a), list(b)
    while len(a) + len(b) > room:
        longer = a if len(a) > len(b) else b
        longer.pop(0 if random_.random() < 0.5 else -1)
    return a, b


def random_segment(language, document, wanted, random_):
    """Whole sentences of another document of the same kind, at least `wanted` tokens where one is long enough."""
    kin = language.kin[int(language.genres[document])]
    for _ in range(10):
        other = int(kin[random_.randrange(len(kin))])
        if other == document:
            continue
        sentences = language.document(other)
        end = language.sentences[sentences.stop]
        starts = [s for s in sentences if end - language.sentences[s] >= wanted]
        if starts:
            break
    else:
        return None
    segment = []
    for s in range(starts[random_.randrange(len(starts))], sentences.stop):
        segment += language.sentence(s)
        if len(segment) >= wanted:
            break
    return segment


def document_examples(language, document, length, random_):
    """All examples of a document: (A, B, label), A and B at most `length` tokens with the special ones."""
    room = length - 3
    examples = []
    sentences = language.document(document)
    position = sentences.start
    while position < sentences.stop:
        # One example in ten is shorter, so that fine-tuning meets no surprise.
        target = room if random_.random() < 0.9 else random_.randint(min(16, room), room)
        chunk, total = [], 0
        while position < sentences.stop and total < target:
            chunk.append(language.sentence(position))
            total += len(chunk[-1])
            position += 1
        if len(chunk) < 2:
            examples.append((chunk[0][: length - 2], [], NO_LABEL))
            continue
        cut = random_.randint(1, len(chunk) - 1)
        a, rest = sum(chunk[:cut], []), sum(chunk[cut:], [])
        b, label = rest, IS_NEXT
        if random_.random() < 0.5:
            # As long as what it replaces: the length must not give the answer away.
            segment = random_segment(language, document, len(rest), random_)
            if segment is None:
                examples.append((a[: length - 2], [], NO_LABEL))
                position -= len(chunk) - cut
                continue
            b, label = segment, IS_RANDOM
            position -= len(chunk) - cut
        a, b = truncate_pair(a, b, target, random_)
        examples.append((a, b, label))
    return [example for example in examples if example[0]]


class Stream:
    """An endless, seeded stream of batches. `state()` and `restore()` continue it exactly."""

    def __init__(self, prepared, languages, part="training", seed=0, batch_tokens=4096, lengths=((128, 0.8), (256, 0.12), (512, 0.08))):
        self.names = sorted(languages)
        self.languages = [Language(Path(prepared) / f"{name}.npz", part) for name in self.names]
        self.random = random.Random(seed)
        self.batch_tokens, self.lengths = batch_tokens, lengths
        self.cursors = [
            (Cursor(language.unordered, self.random), Cursor(len(language.ordered), self.random)) for language in self.languages
        ]
        self.given = [[1e-9, 1e-9] for _ in self.languages]
        self.buckets, self.pending = {}, []
        # A language's share of all tokens. Within it ordered text, from which alone the next sentence is learned, counts double, up to
        # 80 %: more, and the few documents of some languages would be seen so often that they are learned by heart.
        self.targets = []
        for language, share in zip(self.languages, shares([len(language.tokens) for language in self.languages])):
            ordered = min(0.8, 2 * language.ordered_tokens / max(len(language.tokens), 1))
            self.targets.append((share * (1 - ordered), share * ordered))

    def examples(self):
        """The next examples: a document's or a line's, of whichever text is furthest behind its share of tokens."""
        _, which, ordered = min(
            (self.given[i][kind] / target, i, kind) for i, pair in enumerate(self.targets) for kind, target in enumerate(pair) if target > 0
        )
        language = self.languages[which]
        if ordered:
            length = self.random.choices([l for l, _ in self.lengths], [share for _, share in self.lengths])[0]
            document = int(language.ordered[self.cursors[which][1].next()])
            made = document_examples(language, document, length, self.random)
        else:
            made = [(language.sentence(self.cursors[which][0].next())[: self.lengths[0][0] - 2], [], NO_LABEL)]
        self.given[which][ordered] += sum(len(a) + len(b) + 3 for a, b, _ in made) or 1
        return which, [example for example in made if example[0]]

    def batch(self):
        """(ids, types, labels): arrays of examples of one length, about `batch_tokens` in all."""
        while True:
            while not self.pending:
                self.pending = self.examples()[1][::-1]
            a, b, label = self.pending.pop()
            if b and len(a) + len(b) + 3 > 128:  # few lengths above 128, or their batches would take for ever to fill
                a, b = truncate_pair(a, b, (len(a) + len(b) + 3) // 32 * 32 - 3, self.random)
            ids = [CLS, *a, SEP, *b, SEP] if b else [CLS, *a, SEP]
            bucket = self.buckets.setdefault(len(ids), [])
            bucket.append((ids, len(a) + 2, label))
            if len(bucket) * len(ids) >= self.batch_tokens:
                del self.buckets[len(ids)]
                return collate(bucket)

    def state(self):
        return {
            "random": self.random.getstate(),
            "orders": [[cursor.order[:] for cursor in pair] for pair in self.cursors],
            "given": [pair[:] for pair in self.given],
            "pending": self.pending[:],
            "buckets": {length: bucket[:] for length, bucket in self.buckets.items()},
        }

    def restore(self, state):
        self.random.setstate(state["random"])
        for pair, orders in zip(self.cursors, state["orders"]):
            for cursor, order in zip(pair, orders):
                cursor.order = order[:]
        self.given = [pair[:] for pair in state["given"]]
        self.pending = state["pending"][:]
        self.buckets = {length: bucket[:] for length, bucket in state["buckets"].items()}


def collate(examples):
    ids = np.array([ids for ids, _, _ in examples], np.int64)
    types = (np.arange(ids.shape[1])[None] >= np.array([second for _, second, _ in examples])[:, None]).astype(np.int64)
    return ids, types, np.array([label for _, _, label in examples], np.int64)


def mask(ids, vocabulary_size, random_):
    """(corrupted ids, flat positions chosen): 15 % of the tokens; of them 80 % [MASK], 10 % another token, 10 % unchanged.

    Special tokens are never chosen, nor is [UNK]: to predict it would teach to answer [UNK].
    """
    flat = ids.reshape(-1).copy()
    candidates = np.flatnonzero(flat > MASK)
    chosen = np.sort(random_.choice(candidates, max(1, round(MASKED_SHARE * len(candidates))), replace=False))
    fate = random_.random(len(chosen))
    flat[chosen[fate < 0.8]] = MASK
    swapped = chosen[(fate >= 0.8) & (fate < 0.9)]
    # An offset of 1 to n - 1 within the n ordinary tokens: never the token itself.
    ordinary = vocabulary_size - MASK - 1
    offset = random_.integers(1, ordinary, len(swapped))
    flat[swapped] = (flat[swapped] - MASK - 1 + offset) % ordinary + MASK + 1
    return flat.reshape(ids.shape), chosen
