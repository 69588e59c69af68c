"""Learns a cased WordPiece vocabulary shared by all languages, as bert-base-multilingual-cased has it."""

from collections import Counter

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
EXPONENT = 0.7


def shares(sizes, exponent=EXPONENT):
    """Sampling shares: size ** exponent, normalised, so large languages give way to small ones."""
    weights = np.asarray(sizes, float) ** exponent
    return weights / weights.sum()


def _pipeline(model):
    """CJK characters set off by spaces, accents and case kept."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


_SPLITTER = _pipeline(models.WordPiece(unk_token="[UNK]"))


def tokenizer(vocabulary):
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    return _pipeline(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))


def _joins(character):
    """Whether the pre-tokenizer leaves the character inside a word: no space, no punctuation, no CJK character."""
    word = f"a{character}"
    return [piece for piece, _ in _SPLITTER.pre_tokenizer.pre_tokenize_str(_SPLITTER.normalizer.normalize_str(word))] == [word]


def sample(texts, characters, seed):
    """About `characters` of text: lines of each language drawn at random up to its share."""
    random = np.random.default_rng(seed)
    languages = sorted(texts)
    budgets = shares([sum(map(len, texts[language])) for language in languages]) * characters
    drawn = []
    for language, budget in zip(languages, budgets):
        lines, taken = texts[language], 0
        while taken < budget:  # a small language is passed over more than once
            for i in random.permutation(len(lines)):
                drawn.append(lines[i])
                taken += len(lines[i])
                if taken >= budget:
                    break
    return drawn


def learn(texts, size, characters=40_000_000, coverage=0.9995, seed=0):
    """The vocabulary as a list of `size` pieces. `texts`: language -> lines.

    The alphabet is chosen here, by count and then by code point, because the trainer breaks ties by hash order.
    Letters outside it become spaces for the trainer and [UNK] for the tokenizer.
    """
    lines = sample(texts, characters, seed)
    counts = Counter()
    for line in lines:
        counts.update(line)
    total, kept, seen = sum(counts.values()), [], 0
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if seen > coverage * total:
            break
        seen += count
        kept.append(character)
    kept = set(kept)
    rare = {ord(character): " " for character in counts if character not in kept}
    # The trainer numbers the pieces ##c as it meets them in a hash map, and breaks ties by number: number them for it.
    inside = [f"##{character}" for character in sorted(kept) if _joins(character)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=SPECIAL + inside, continuing_subword_prefix="##", show_progress=False, min_frequency=2
    )
    learner = _pipeline(models.WordPiece(unk_token="[UNK]"))
    learner.train_from_iterator((line.translate(rare) for line in lines), trainer)
    vocabulary = learner.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().split("\n")[:-1]


def write(path, vocabulary):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("".join(piece + "\n" for piece in vocabulary))
