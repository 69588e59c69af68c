"""Teaches a small model what a larger one makes of the same text, though their vocabularies differ.

Both cut text into the same words, so they are compared word by word: the mean of a word's final hidden states, projected to the
teacher's width, is drawn to the teacher's; and the next-sentence answer to the teacher's answer. The teacher sees the text whole,
the student with 15 % of its tokens chosen.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import examples
import model as bert
import vocabulary

SPECIALS = examples.MASK + 1


def begins_word(prepared):
    """For each id of a vocabulary, whether it begins a word."""
    return np.array([not piece.startswith("##") for piece in vocabulary.read(Path(prepared) / "vocab.txt")])


class Text:
    """All training text of some languages in one vocabulary, end to end: ids, and where each word starts."""

    def __init__(self, prepared, languages):
        self.ids = np.concatenate([examples.Language(Path(prepared) / f"{name}.npz", "training").tokens for name in sorted(languages)])
        starts = begins_word(prepared)[self.ids]
        self.word = np.cumsum(starts) - 1
        self.starts = np.append(np.flatnonzero(starts), len(self.ids))


class Teacher:
    """`watch` makes a stream give positions in the text instead of ids; `student_batch` and `lessons` read them."""

    def __init__(self, checkpoint, prepared, student_prepared, languages):
        state = torch.load(checkpoint, weights_only=False, mmap=True)
        self.model = bert.create(state["size"], state["vocabulary"])
        self.model.load_state_dict({name: tensor for name, tensor in state["model"].items() if name.startswith(("bert.", "cls."))})
        self.model.eval().requires_grad_(False)
        self.width = self.model.config.hidden_size
        self.text, self.student = Text(prepared, languages), Text(student_prepared, languages)
        assert len(self.text.starts) == len(self.student.starts), "the vocabularies were not prepared from the same corpus and seed"

    def watch(self, stream):
        offset = SPECIALS
        for language in stream.languages:  # the same order as in Text
            count = len(language.tokens)
            language.tokens = np.arange(offset, offset + count)
            offset += count
        return stream

    def student_batch(self, batch):
        """The batch with the student's ids in the place of positions."""
        positions, types, labels = batch
        ids = np.where(positions < SPECIALS, positions, self.student.ids[np.maximum(positions - SPECIALS, 0)].astype(np.int64))
        return ids, types, labels

    @torch.no_grad()
    def lessons(self, batch):
        """(teacher's mean state of each word [words, width], teacher's next-sentence answers, (row, column, word) of the student's tokens)."""
        positions, types, _ = batch
        inside = positions >= SPECIALS
        word = np.where(inside, self.student.word[np.maximum(positions - SPECIALS, 0)], -1)
        rows, places = [], []  # ids of the teacher's input, and the (first, last + 1) of each word in them
        index, words = np.full(positions.shape, -1), 0
        for row in range(len(positions)):
            ids, segments = [examples.CLS], []
            for segment in (0, 1):
                chosen = inside[row] & (types[row] == segment)
                if not chosen.any():
                    continue
                first, last = word[row][chosen][0], word[row][chosen][-1]
                index[row][chosen] = words + word[row][chosen] - first
                words += last - first + 1
                bounds = self.text.starts[first : last + 2]
                places += [(row, len(ids) + a - bounds[0], len(ids) + b - bounds[0]) for a, b in zip(bounds[:-1], bounds[1:])]
                ids += [*self.text.ids[bounds[0] : bounds[-1]].tolist(), examples.SEP]
                segments.append(len(ids))
            rows.append((ids, segments[0] if segments else len(ids)))
        length = min(max(len(ids) for ids, _ in rows), self.model.config.max_position_embeddings)
        ids = np.zeros((len(rows), length), np.int64)
        kinds = np.zeros_like(ids)
        for row, (own, second) in enumerate(rows):
            ids[row, : len(own)] = own[:length]
            kinds[row, second : len(own)] = 1
        hidden = bert.encode(self.model, torch.from_numpy(ids), torch.from_numpy(kinds), padded=True)
        answers = bert.next_sentence(self.model, hidden).float()
        cumulative = F.pad(hidden.float().cumsum(1), (0, 0, 1, 0))
        row, first, last = (torch.tensor(part) for part in zip(*places))
        first, last = first.clamp(max=length - 1), last.clamp(max=length)
        means = (cumulative[row, last] - cumulative[row, first]) / (last - first).clamp(min=1)[:, None]
        return means, answers, index

    def loss(self, projection, hidden, relation, lessons, labels):
        """How far the student is from the teacher: words, and next sentence."""
        means, answers, index = lessons
        index = torch.from_numpy(index.reshape(-1))
        inside = index >= 0
        own = projection(hidden).reshape(-1, self.width)[inside].float()
        index = index[inside]
        counts = torch.zeros(len(means)).index_add(0, index, torch.ones(len(index)))
        own = torch.zeros_like(means).index_add(0, index, own) / counts.clamp(min=1)[:, None]
        words = F.mse_loss(own[counts > 0], means[counts > 0])
        pairs = torch.from_numpy(labels >= 0)
        if not pairs.any():
            return words
        return words + F.kl_div(F.log_softmax(relation[pairs], -1), F.log_softmax(answers[pairs], -1), log_target=True, reduction="batchmean")
