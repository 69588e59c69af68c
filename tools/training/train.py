"""Trains a model on prepared arrays, for a given time, resumably.

    python train.py PREPARED RUN --size small --minutes 75

The learning rate follows the clock, not a count of steps, so a run ends when it should on a busy machine too. RUN gets
checkpoint.pt (every few minutes; the same command continues from it) and log.jsonl.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F

import distil
import examples
import model as bert
import optimizer
import vocabulary
from corpus import LANGUAGES


def losses(model, batch, random, vocabulary_size, nsp_weight=1.0, like_weight=1.0, teacher=None):
    """Sum of both losses, of the teacher's too where there is one, and the counts that the log wants."""
    lessons = teacher and teacher.lessons(batch)
    ids, types, labels = teacher.student_batch(batch) if teacher else batch
    corrupted, positions = examples.mask(ids, vocabulary_size, random)
    targets = torch.from_numpy(ids.reshape(-1)[positions])
    states = []
    hidden = bert.encode(model, torch.from_numpy(corrupted), torch.from_numpy(types), states=states)
    scores = bert.predict(model, hidden, torch.from_numpy(positions)).float()
    mlm = F.cross_entropy(scores, targets)
    count = {"masked": len(targets), "mlm": mlm.item() * len(targets), "hit": (scores.argmax(-1) == targets).sum().item()}
    loss = mlm
    labelled = torch.from_numpy(labels)
    pairs = int((labelled >= 0).sum())
    relation = bert.next_sentence(model, hidden).float()
    if lessons:
        loss = loss + teacher.loss(model.projection, hidden, relation, lessons, labels)
    if pairs:
        nsp = F.cross_entropy(relation, labelled, ignore_index=examples.NO_LABEL)
        loss = loss + nsp_weight * nsp
        if hasattr(model, "likeness"):
            rows = torch.from_numpy(labels >= 0)
            like = bert.likeness(model, states[len(states) // 2 - 1][rows], torch.from_numpy(corrupted)[rows], torch.from_numpy(types)[rows])
            loss = loss + like_weight * like
            count["like"] = like.item() * pairs
        count |= {"pairs": pairs, "nsp": nsp.item() * pairs, "nsp_hit": (relation.argmax(-1) == labelled).sum().item()}
    return loss, count


def summary(counts):
    total = {}
    for count in counts:
        for name, value in count.items():
            total[name] = total.get(name, 0) + value
    masked, pairs = max(total.get("masked", 0), 1), max(total.get("pairs", 0), 1)
    return {
        "mlm_loss": total.get("mlm", 0) / masked, "mlm_accuracy": total.get("hit", 0) / masked,
        "nsp_loss": total.get("nsp", 0) / pairs, "nsp_accuracy": total.get("nsp_hit", 0) / pairs,
        "like_loss": total.get("like", 0) / pairs,
    }  # fmt: skip


def validate(model, batches, vocabulary_size):
    random = np.random.default_rng(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return summary([losses(model, batch, random, vocabulary_size)[1] for batch in batches])


def rate(progress, warm_up=0.02):
    """Warms up, then falls linearly to (almost) nothing."""
    return min(progress / warm_up, max((1 - progress) / (1 - warm_up), 0.005))


def frequencies(stream, size):
    """The share of each token in what the stream will give."""
    total = np.zeros(size)
    for language, (unordered, ordered) in zip(stream.languages, stream.targets):
        total += np.bincount(language.tokens, minlength=size) * (unordered + ordered) / len(language.tokens)
    return total + 1e-7


COUNTS = ("masked", "mlm", "hit", "pairs", "nsp", "nsp_hit", "like", "tokens")


class Worker:
    """One of the processes that share a model: each has a stream of its own, one thread, and steps its part of the optimizers.

    The gradients of all are averaged once a step. Processes wait for each other far less than the threads of one would, operation by
    operation, which matters on a machine that does other work besides.
    """

    def __init__(self, rank, shared, arguments):
        self.rank, self.shared, self.arguments = rank, shared, arguments
        self.model, self.size = shared["model"], shared["vocabulary"]
        for parameter, gradient in zip(self.model.parameters(), shared["gradients"][rank]):
            parameter.grad = gradient
        created = optimizer.create(self.model, arguments.lr_matrices, arguments.lr_rest, arguments.weight_decay)
        self.optimizers = {i: o for i, o in enumerate(created) if i % arguments.workers == rank}
        self.rates = {i: [group["lr"] for group in o.param_groups] for i, o in self.optimizers.items()}
        seed = arguments.seed * 1000 + rank
        lengths = tuple(pair for pair in ((128, 0.8), (256, 0.12), (512, 0.08)) if pair[0] <= self.model.config.max_position_embeddings)
        self.stream = examples.Stream(arguments.prepared, arguments.languages, seed=seed, batch_tokens=arguments.micro_batch, lengths=lengths)
        self.random = np.random.default_rng(seed)
        self.teacher, self.turn = None, 0
        if arguments.teacher:
            self.teacher = distil.Teacher(arguments.teacher, arguments.teacher_prepared, arguments.prepared, arguments.languages)
            self.teacher.watch(self.stream)

    def state(self):
        optimizers = {i: o.state_dict() for i, o in self.optimizers.items()}
        return {"optimizers": optimizers, "stream": self.stream.state(), "random": self.random.bit_generator.state, "turn": self.turn}

    def restore(self, state):
        for i, o in self.optimizers.items():
            if i in state["optimizers"]:
                o.load_state_dict(state["optimizers"][i])
        self.stream.restore(state["stream"])
        self.random.bit_generator.state = state["random"]
        self.turn = state["turn"]

    def step(self, progress):
        self.shared["barrier"].wait()
        for gradient in self.shared["gradients"][self.rank]:
            gradient.zero_()
        counts = self.shared["counts"][self.rank]
        for _ in range(self.arguments.micro_batches):
            batch = self.stream.batch()
            taught = self.teacher and progress < self.arguments.lessons_until and self.turn % self.arguments.lesson_every == 0
            self.turn += 1
            if self.teacher and not taught:
                batch = self.teacher.student_batch(batch)
            with torch.autocast("cpu", torch.bfloat16):
                loss, count = losses(self.model, batch, self.random, self.size, self.arguments.nsp_weight, self.arguments.like_weight, self.teacher if taught else None)
            loss.backward()
            counts += torch.tensor([count.get(name, batch[0].size if name == "tokens" else 0) for name in COUNTS])
        self.shared["barrier"].wait()
        index = {id(parameter): i for i, parameter in enumerate(self.model.parameters())}
        for i, o in self.optimizers.items():
            mine = [parameter for group in o.param_groups for parameter in group["params"]]
            for parameter in mine:
                parameter.grad = sum(worker[index[id(parameter)]] for worker in self.shared["gradients"])
                parameter.grad /= self.arguments.micro_batches * self.arguments.workers
            torch.nn.utils.clip_grad_norm_(mine, 1.0)  # does nothing to Muon, whose steps have no scale
            for group, lr in zip(o.param_groups, self.rates[i]):
                group["lr"] = lr * rate(progress)
            o.step()
            for parameter in mine:
                parameter.grad = self.shared["gradients"][self.rank][index[id(parameter)]]


def follow(rank, shared, arguments, pipe):
    """A worker other than the first: does what the first one says."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    worker = Worker(rank, shared, arguments)
    while (order := pipe.recv()) is not None:
        if order == "state":
            pipe.send(worker.state())
        elif isinstance(order, dict):
            worker.restore(order)
        else:
            worker.step(order)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", choices=bert.SIZES, default="small")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--languages", nargs="+", default=LANGUAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--micro-batch", type=int, default=2048, help="tokens")
    parser.add_argument("--micro-batches", type=int, default=2, help="per worker and step")
    parser.add_argument("--lr-matrices", type=float, default=4e-4)
    parser.add_argument("--lr-rest", type=float, default=1.4e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--nsp-weight", type=float, default=2.0)
    parser.add_argument("--like-weight", type=float, default=5.0)
    parser.add_argument("--teacher", type=Path, help="checkpoint.pt of the model to learn from")
    parser.add_argument("--teacher-prepared", type=Path, help="the PREPARED that the teacher was trained on")
    parser.add_argument("--lesson-every", type=int, default=1, help="micro-batches: the teacher costs more than the student")
    parser.add_argument("--lessons-until", type=float, default=0.5, help="share of the time: at last the student learns by itself")
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    size = len(vocabulary.read(arguments.prepared / "vocab.txt"))
    model = bert.create(arguments.size, size, arguments.seed)
    if arguments.teacher:
        width = torch.load(arguments.teacher, weights_only=False, mmap=True)["model"]["bert.pooler.dense.bias"].numel()
        model.projection = torch.nn.Linear(model.config.hidden_size, width)
    model.likeness = torch.nn.Linear(model.config.hidden_size, 1)
    stream = examples.Stream(arguments.prepared, arguments.languages)
    with torch.no_grad():  # or the first thousand steps would go into learning how frequent each token is
        model.cls.predictions.bias.copy_(torch.from_numpy(np.log(frequencies(stream, size))))
    del stream
    model.share_memory()
    shared = {
        "model": model, "vocabulary": size, "barrier": multiprocessing.Barrier(arguments.workers),
        "gradients": [[torch.zeros_like(p).share_memory_() for p in model.parameters()] for _ in range(arguments.workers)],
        "counts": torch.zeros(arguments.workers, len(COUNTS), dtype=torch.float64).share_memory_(),
    }  # fmt: skip
    pipes = []
    for rank in range(1, arguments.workers):
        pipe, end = multiprocessing.Pipe()
        multiprocessing.Process(target=follow, args=(rank, shared, arguments, end), daemon=True).start()
        pipes.append(pipe)
    worker = Worker(0, shared, arguments)
    check = examples.Stream(arguments.prepared, arguments.languages, part="validation", seed=1, batch_tokens=2048, lengths=((128, 1.0),))
    check = [check.batch() for _ in range(60)]

    arguments.run.mkdir(parents=True, exist_ok=True)
    saved, step, tokens, before = arguments.run / "checkpoint.pt", 0, 0, 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=False)
        model.load_state_dict(state["model"], strict=False)
        worker.restore(state["workers"][0])
        for pipe, own in zip(pipes, state["workers"][1:]):
            pipe.send(own)
        step, tokens, before = state["step"], state["tokens"], state["elapsed"]
    log = open(arguments.run / "log.jsonl", "a", buffering=1)
    started, total = time.monotonic(), arguments.minutes * 60

    def elapsed():
        return before + time.monotonic() - started

    def write(record):
        log.write(json.dumps({"step": step, "tokens": tokens, "seconds": round(elapsed(), 1), **record}) + "\n")

    def save():
        for pipe in pipes:
            pipe.send("state")
        state = {
            "model": model.state_dict(), "workers": [worker.state()] + [pipe.recv() for pipe in pipes], "step": step, "tokens": tokens,
            "elapsed": elapsed(), "size": arguments.size, "vocabulary": size, "arguments": {k: str(v) for k, v in vars(arguments).items()},
        }  # fmt: skip
        torch.save(state, saved.with_suffix(".new"))
        os.replace(saved.with_suffix(".new"), saved)
        write({"validation": validate(model, check, size)})

    last_save, last_log = elapsed(), elapsed()
    while elapsed() < total:
        progress = elapsed() / total
        for pipe in pipes:
            pipe.send(progress)
        worker.step(progress)
        step += 1
        if step % 50 == 0 or elapsed() - last_save > arguments.checkpoint_minutes * 60:
            if pipes:  # the others have finished the step when they answer
                for pipe in pipes:
                    pipe.send("state")
                    pipe.recv()
            counts = dict(zip(COUNTS, shared["counts"].sum(0).tolist()))
            shared["counts"].zero_()
            tokens += int(counts["tokens"])
            write({"tokens_per_second": round(counts["tokens"] / (elapsed() - last_log)), **summary([counts])})
            if elapsed() - last_save > arguments.checkpoint_minutes * 60:
                save()
                last_save = elapsed()
            last_log = elapsed()
    save()
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main()
