"""Draws the learning curves of a run: python plot.py RUN/log.jsonl [OTHER/log.jsonl] --out curves.png"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def smooth(values, width=9):
    half = width // 2
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i - half) : i + half + 1])]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--title", default="")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    records = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    kept = []  # what was done again after an interruption counts as done the second time only
    for record in reversed(records):
        if not kept or record["tokens"] < kept[-1]["tokens"] or "validation" in kept[-1] and record["tokens"] == kept[-1]["tokens"]:
            kept.append(record)
    records = kept[::-1]
    training = [record for record in records if "mlm_loss" in record]
    checks = [record for record in records if "validation" in record]
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.4), dpi=80)
    panels = (("mlm_loss", "masked LM: loss"), ("mlm_accuracy", "masked LM: top-1"), ("nsp_loss", "next sentence: loss"), ("nsp_accuracy", "next sentence: accuracy"))
    for axis, (key, name) in zip(axes.flat, panels):
        axis.plot([r["tokens"] / 1e6 for r in training], smooth([r[key] for r in training]), color="tab:blue", linewidth=1, label="training")
        axis.plot([r["tokens"] / 1e6 for r in checks], [r["validation"][key] for r in checks], "o-", color="tab:orange", markersize=3, linewidth=1, label="validation")
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("million tokens")
    figure.suptitle(arguments.title, fontsize=11)
    figure.tight_layout()
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
