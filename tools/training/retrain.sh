#!/bin/sh
# Makes both models from the corpus: sh retrain.sh CORPUS WORK [MINUTES_SMALL MINUTES_TINY]
# Interrupted, the same command continues where it stopped. WORK/small and WORK/tiny are the results.
set -eu
corpus=$1 work=$2 here=$(dirname "$0")
python=${PYTHON:-python3}
step() { script=$1; shift; "$python" "$here/$script.py" "$@"; }

mkdir -p "$work"
[ -e "$work/prepared-small/done" ] || {
    step prepare "$corpus" "$work/prepared-small" --size 12000 --validation-out "$work/validation"
    touch "$work/prepared-small/done"
}
[ -e "$work/prepared-tiny/done" ] || {
    step prepare "$corpus" "$work/prepared-tiny" --size 5400 --coverage 0.998
    touch "$work/prepared-tiny/done"
}
step train "$work/prepared-small" "$work/run-small" --size small --minutes "${3:-60}"
step train "$work/prepared-tiny" "$work/run-tiny" --size tiny --minutes "${4:-20}" --micro-batches 2 --lesson-every 6 \
    --nsp-weight 1 --like-weight 1 --lr-matrices 1e-3 --lr-rest 4e-3 \
    --teacher "$work/run-small/checkpoint.pt" --teacher-prepared "$work/prepared-small"
for size in small tiny; do
    step export "$work/run-$size/checkpoint.pt" "$work/prepared-$size" "$work/$size" --validation "$work/validation"
    step evaluate "$work/$size" "$work/prepared-$size" --validation "$work/validation" --out "$work/$size.json"
    step plot "$work/run-$size/log.jsonl" --title "$size" --out "$work/$size/curves.png"
done
