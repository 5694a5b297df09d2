#!/usr/bin/env bash
# What only a GPU can show, in steps of at most ten minutes: correctness, benchmarks, a profile, a real run.
#
#   bash benchmarks/gpu.sh --out FOLDER [--pictures FOLDER] [--minutes 60] [--device cuda] [--width 128] [--samples 10000]
#
# A step that is done leaves a marker in FOLDER/done and is skipped. One that ran out of its ten minutes ends the script
# with code 75; the same command goes on with it (training from its checkpoint, compiling from its cache). To the end:
#   while bash benchmarks/gpu.sh ...; [ $? = 75 ]; do :; done
# Without --pictures there is no real run. A CPU takes --device cpu --width 16 --samples 10. PYTHON says which Python.
set -euo pipefail

out= pictures= minutes=60 device=cuda width=128 samples=10000
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2 ;;
    --pictures) pictures=$2 ;;
    --minutes) minutes=$2 ;;
    --device) device=$2 ;;
    --width) width=$2 ;;
    --samples) samples=$2 ;;
    *) echo "gpu.sh: unknown option $1" >&2; exit 2 ;;
  esac
  [ $# -ge 2 ] || { echo "gpu.sh: $1 needs a value" >&2; exit 2; }
  shift 2
done
[ -n "$out" ] || { echo "gpu.sh: --out FOLDER is needed" >&2; exit 2; }
[ -z "$pictures" ] || [ -d "$pictures" ] || { echo "gpu.sh: --pictures: there is no folder $pictures" >&2; exit 2; }
mkdir -p "$out/done"
out=$(cd "$out" && pwd)
[ -z "$pictures" ] || pictures=$(cd "$pictures" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
export TORCHINDUCTOR_CACHE_DIR="$out/compiled"

# Only a GPU is worth compiling for, and its batches.
if [ "$device" = cpu ]; then
  batch=4 sampling=4 rounds=3 steps=1 compile=() evaluations=(2 5)
else
  batch=128 sampling=500 rounds=7 steps=5 compile=(--compile) evaluations=(10 20 50)
fi
contest=(--device "$device" --width "$width" --rounds "$rounds" --steps "$steps")

step() {
  local name=$1 code=0
  shift
  [ ! -e "$out/done/$name" ] || return 0
  echo "== $name: $*"
  # A little less than ten minutes, for callers that allow ten.
  timeout 580 "$@" 2>&1 | tee -a "$out/$name.log" || code=$?
  case $code in
    0) touch "$out/done/$name" ;;
    124) echo "gpu.sh: $name goes on when the same command is run again" >&2; exit 75 ;;
    *) echo "gpu.sh: $name failed ($code); see $out/$name.log" >&2; exit 1 ;;
  esac
}

step correctness "$python" benchmarks/correctness.py --device "$device" --width "$width" --batch "$batch" "${compile[@]}" \
  --out "$out/correctness.csv"
step train "$python" benchmarks/train.py "${contest[@]}" --batch "$batch" --no-compile --out "$out/train.csv"
step sample "$python" benchmarks/sample.py "${contest[@]}" --batch "$sampling" --no-compile --out "$out/sample.csv"
step fast "$python" benchmarks/sample.py --device "$device" --width "$width" --rounds 3 --batch "$sampling" --no-compile \
  --evaluations "${evaluations[@]}" --out "$out/fast.csv"
if [ "$device" != cpu ]; then
  step train-best "$python" benchmarks/train.py "${contest[@]}" --batch "$batch" --networks Default --compile \
    --out "$out/train-best.csv"
  step sample-best "$python" benchmarks/sample.py "${contest[@]}" --batch "$sampling" --networks Default --compile \
    --out "$out/sample-best.csv"
fi
step profile "$python" benchmarks/profile_step.py --device "$device" --width "$width" --batch "$batch" --out "$out/profile.csv"
[ -n "$pictures" ] || exit 0

step evidence "$python" benchmarks/evidence.py "$pictures" --minutes "$minutes" --device "$device" --width "$width" \
  --samples "$samples" --train-batch "$batch" --batch "$sampling" --out "$out/evidence"
while read -r command run; do
  step "$command-$run" "$python" -m surrodiff.cli "$command" "$run" \
    --params "$out/evidence/params.yaml" --results "$out/evidence/results"
done < "$out/evidence/commands"
column -s , -t < "$out/evidence/results/tables/table_4_5.csv" | cut -c 1-400
