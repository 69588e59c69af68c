"""The corpus: one `LANG.txt.xz` of unordered lines and one `LANG.docs.txt.xz` of ordered documents per language.

The files do not say which source a document came from, and two things need it: the software manuals are left out
(their licence would have to be the weights' too), and the random sentence of a next-sentence pair has to come
from the same kind of text, or the pair is told apart by its style. `genres` infers the kind of each document.
"""

import hashlib
import lzma
import re
from collections import Counter
from pathlib import Path

import numpy as np

LANGUAGES = ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ru", "ta", "uk", "vi", "zh"]

MANUAL, FICTION, MODERN = range(3)
GENRES = ["manual", "fiction", "modern"]

_WORD = re.compile(r"[\u30a0-\u30ff]+|[\u3040-\u309f\u3400-\u9fff]|[^\W\d_]+")
# Product and key names are written in Latin letters in every language, which seeds the manuals everywhere.
_MANUAL_SEED = re.compile(r"LibreOffice|Open(?:Document|Office)|GNOME|\b(?:Calc|Writer|Impress|Ctrl|Shift|Alt|HTML|XML|PDF|ODBC|USB)\b")
_YEAR = re.compile(r"(?<!\d)(?:19[3-9]\d|20[0-2]\d)(?!\d)")


def held_out(text, seed=0, share=0.01):
    """Whether a line (or a document, by its first line) belongs to the share kept for validation."""
    digest = hashlib.blake2b(f"{seed}:{text.casefold()}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


def _read(path):
    if not path.exists():
        return ""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return file.read()


def read_lines(corpus, language):
    return [line for line in _read(Path(corpus) / f"{language}.txt.xz").split("\n") if line]


def read_documents(corpus, language):
    text = _read(Path(corpus) / f"{language}.docs.txt.xz")
    return [[line for line in document.split("\n") if line] for document in text.split("\n\n") if document.strip()]


def genres(documents, lines, rounds=5):
    """The kind of each document, by naive Bayes over word counts, seeded by rules and refined by hard EM.

    The unordered lines, which hold no manuals, say what ordinary text looks like in the first round.
    """
    index = {}

    def ids(text):
        return np.array([index.setdefault(word, len(index)) for word in _WORD.findall(text)], np.int64)

    texts = ["\n".join(document) for document in documents]
    words = [ids(text) for text in texts]
    ordinary = np.bincount(ids("\n".join(lines)), minlength=len(index)).astype(float)
    vocabulary = len(index)
    ordinary.resize(vocabulary)
    manual = np.array([bool(_MANUAL_SEED.search(text)) for text in texts], bool)
    dated = np.array([bool(_YEAR.search(text)) for text in texts], bool)

    def split(member, inside, background=None):
        """Hard EM between `inside` (member now) and the others among documents where `member` is not -1."""
        chosen = [d for d in range(len(words)) if member[d] >= 0]
        for round_ in range(rounds):
            counts = [np.full(vocabulary, 0.1), np.full(vocabulary, 0.1)]
            for d in chosen:
                if background is None or round_ or inside[d]:
                    np.add.at(counts[int(inside[d])], words[d], 1)
            if background is not None and not round_:
                counts[0] += background
            ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
            for d in chosen:
                inside[d] = ratio[words[d]].sum() > 0
        return inside

    everyone = np.zeros(len(words), int)
    seeded = manual.copy()
    manual = split(everyone, manual, ordinary)
    # A document that names the products is a manual whatever its other words: leave no doubt.
    manual |= seeded & np.array([len(_MANUAL_SEED.findall(text)) >= 2 for text in texts], bool)
    dated = split(np.where(manual, -1, 0), dated)
    return np.where(manual, MANUAL, np.where(dated, MODERN, FICTION))


def load(corpus, language, seed=0):
    """{"training" | "validation": (lines, [(genre, sentences)])}, manuals left out.

    One per cent of the lines and of the documents is kept out; of few documents more, about 15, so that pairs can be drawn.
    """
    lines = read_lines(corpus, language)
    documents = read_documents(corpus, language)
    kinds = genres(documents, lines)
    parts = {"training": ([], []), "validation": ([], [])}
    for line in lines:
        parts["validation" if held_out(line, seed) else "training"][0].append(line)
    share = max(0.01, 15 / max((kinds != MANUAL).sum(), 1))
    for genre, document in zip(kinds, documents):
        if genre != MANUAL:
            parts["validation" if held_out(document[0], seed, share) else "training"][1].append((int(genre), document))
    return parts


if __name__ == "__main__":
    import sys

    for language in sys.argv[2:] or LANGUAGES:
        documents = read_documents(sys.argv[1], language)
        kinds = genres(documents, read_lines(sys.argv[1], language))
        sizes = Counter()
        for genre, document in zip(kinds, documents):
            sizes[GENRES[genre]] += sum(len(line.encode()) + 1 for line in document)
        print(language, {name: round(size / 1e6, 2) for name, size in sorted(sizes.items())}, flush=True)
