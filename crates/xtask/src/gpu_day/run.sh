#!/usr/bin/env bash
# Tests, measures and trains on a machine with a GPU.
#
#   run.sh SECONDS [RESULTS_FOLDER]        # default: the folder results beside this file
#
# Needs bash 5, tar and gzip; Python with PyTorch only for the comparison with PyTorch. What fails or is missing is
# noted, and the next step follows. All ends within SECONDS. The results are at most 8 files of at most 15 MiB:
# figures.json says what happened. Environment: NUMFORMER_DEVICE (default cuda:0), NUMFORMER_PYTHON (default python3).
set -u
export LC_ALL=C

seconds=${1:-}
if ! [[ $seconds =~ ^[1-9][0-9]{0,5}$ ]]; then
  echo "usage: run.sh SECONDS [RESULTS_FOLDER]" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results=${2:-$here/results}
device=${NUMFORMER_DEVICE:-cuda:0}
python=${NUMFORMER_PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-day.XXXXXX") || exit 1
logs=$work/logs
mkdir -p "$results" "$logs" || exit 1
rm -f "$results"/{figures.json,logs.tar.gz,metrics.jsonl,timings.jsonl,learning-curve.svg} "$results"/checkpoint.tar*

# --- Time, in milliseconds --------------------------------------------------------------------------------------------

set_now() { now=$((${EPOCHREALTIME/[.,]/} / 1000)); }
set_now
began=$now
date=$(date -u +%Y-%m-%d)
# The shares of the phases: correctness 120 s of 600, timings 300, results 40, training the rest.
least() { echo $(($1 < $2 ? $1 : $2)); }
total_ms=$((seconds * 1000))
correctness_end=$((began + $(least 120000 $((total_ms / 5)))))
results_ms=$(least 40000 $((total_ms / 10)))
training_end=$((began + total_ms - results_ms))
# Time that a program has to end after it is asked to.
grace_ms=$(least 15000 $((total_ms / 30)))
# The time until a program is killed that does not end when its own time is over.
kill_ms=$(least 2000 $((total_ms / 60)))
timings_ms=$(least 300000 $((total_ms / 2)))

# Milliseconds as seconds, as 1.234.
in_seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

# --- What is noted ----------------------------------------------------------------------------------------------------

# A text as a string of JSON. What is not printable ASCII becomes a question mark.
json_string() {
  local text=${1//$'\t'/ }
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//[^ -~]/?}
  printf '"%s"' "$text"
}

# The reason of a failure: the first line of a log that names an error, else its last line.
reason_in() {
  local reason
  reason=$(grep -a -m 1 -i -E "^(error|[a-z.]*error):|panicked at|not found|No such file" "$1" 2>/dev/null)
  if [[ $reason == *"panicked at"* ]]; then
    reason=$(grep -a -A 1 -m 1 "panicked at" "$1" | tr '\n' ' ')
  fi
  [[ -n $reason ]] || reason=$(grep -a -v '^[[:space:]]*$' "$1" 2>/dev/null | tail -n 1)
  [[ -n $reason ]] || reason="it wrote nothing"
  printf '%s' "${reason:0:300}"
}

phase=preparation
# Notes a step: its name, outcome (passed, failed, left out), milliseconds, and why or what was found.
note() {
  local line
  line=$(printf '{"phase":%s,"name":%s,"outcome":%s,"seconds":%s,"note":%s}' "$(json_string "$phase")" \
    "$(json_string "$1")" "$(json_string "$2")" "$(in_seconds "$3")" "$(json_string "$4")")
  printf '%s\n' "$line" >>"$work/steps.jsonl"
  printf '%-12s %-32s %-9s %8s s  %s\n' "$phase" "$1" "$2" "$(in_seconds "$3")" "$4"
}

# Runs a command as a step of at most this many milliseconds: sets `code` and `took`. Its output is in $logs/NAME.log.
run_for() {
  local limit=$1 name=$2
  shift 2
  set_now
  local begin=$now
  # In the background, because a signal to this script interrupts `wait`, but not a command.
  timeout -k "$(in_seconds "$kill_ms")" "$(in_seconds "$limit")" "$@" >"$logs/$name.log" 2>&1 </dev/null &
  wait "$!" 2>/dev/null
  code=$?
  set_now
  took=$((now - begin))
}

# The reason why a command ended with `code` that is not 0.
why() {
  case $code in
    124 | 137) printf 'out of time after %s s' "$(in_seconds "$took")" ;;
    126 | 127) printf 'cannot be run: %s' "$(reason_in "$1")" ;;
    *) printf '%s (exit code %d)' "$(reason_in "$1")" "$code" ;;
  esac
}

# Milliseconds for the next step of a phase with this end: so many per cent of what is left, so that a step that hangs
# leaves time for those after it. Sets `limit`; fails if there is none left.
set_limit() {
  set_now
  limit=$((($1 - now) * $2 / 100))
  ((limit >= 300))
}

# A step of the phase of correctness. Succeeds as the command does.
share=50
check() {
  local name=$1
  shift
  if ! set_limit "$correctness_end" "$share"; then
    note "$name" "left out" 0 "no time was left"
    return 1
  fi
  run_for "$limit" "$name" "$@"
  if ((code != 0)); then
    note "$name" failed "$took" "$(why "$logs/$name.log")"
    return 1
  fi
}

# --- What is found ----------------------------------------------------------------------------------------------------

first_line() { "$@" 2>/dev/null | head -n 1; }

describe_machine() {
  local gpu='' memory='' driver='' processor system
  IFS=, read -r gpu memory driver < <(timeout 10 nvidia-smi --query-gpu=name,memory.total,driver_version \
    --format=csv,noheader 2>/dev/null)
  processor=$(grep -m 1 '^model name' /proc/cpuinfo 2>/dev/null)
  system=$(grep -m 1 '^PRETTY_NAME=' /etc/os-release 2>/dev/null)
  system=${system#*=}
  printf '{"gpu":%s,"memory":%s,"driver":%s,"processor":%s,"cores":%d,"system":%s,"kernel":%s}' \
    "$(json_string "$gpu")" "$(json_string "${memory# }")" "$(json_string "${driver# }")" \
    "$(json_string "${processor#*: }")" "$(nproc)" "$(json_string "${system//\"/}")" "$(json_string "$(uname -r)")"
}

describe_versions() {
  printf '{"numformer":%s,"commit":%s,"capability":%s,"python":%s,"torch":%s,"libraries":%s}' \
    "$(json_string "$(first_line timeout 10 "$work/numformer" --version)")" "$(json_string "${NUMFORMER_COMMIT:-}")" \
    "$(json_string "${NUMFORMER_CAPABILITY:-}")" "$(json_string "$(first_line timeout 10 "$python" --version)")" \
    "$(json_string "$torch")" "$(json_string "$libraries")"
}

# cuBLAS and cuRAND are often only in the packages of PyTorch, or in a folder of CUDA that the system does not search, as
# the driver's is in some containers. Prints the folders that our programs have to be told of, with colons between them.
find_libraries() {
  local known sites site version library candidate folders='' candidates=()
  known=$(ldconfig -p 2>/dev/null)
  if [[ $known != *libcuda.so.1* && -e /usr/local/nvidia/lib64/libcuda.so.1 ]]; then
    folders=/usr/local/nvidia/lib64
  fi
  sites=$(timeout 40 "$python" -c 'import importlib.util, os, sysconfig
torch = importlib.util.find_spec("torch")
print(sysconfig.get_path("purelib"))
torch and print(os.path.dirname(os.path.dirname(torch.origin)))' 2>/dev/null)
  candidates=(/usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib)
  for site in $sites; do candidates+=("$site"/nvidia/{cu13,cublas,curand,nccl}/lib); done
  for library in libcublas libcublasLt libcurand libnccl; do
    # cuRAND and NCCL have had the same number for long.
    for version in 13 12 10 2; do
      [[ $known == *"$library.so.$version "* ]] && break
      for candidate in "${candidates[@]}"; do
        if [[ -e $candidate/$library.so.$version ]]; then
          [[ :$folders: == *":$candidate:"* ]] || folders+="${folders:+:}$candidate"
          break 2
        fi
      done
    done
  done
  printf '%s' "$folders"
}

# The JSON objects in the given files, with commas between them.
objects() {
  cat "$@" 2>/dev/null | grep -a -x '{.*}' | sed '$!s/$/,/'
}

# Writes figures.json as far as things have come.
write_figures() {
  set_now
  {
    printf '{\n"format":1,\n"date":%s,\n"seconds":%d,\n"took":%s,\n' "$(json_string "$date")" "$seconds" \
      "$(in_seconds $((now - began)))"
    printf '"device":%s,\n"machine":%s,\n"versions":%s,\n' "$(json_string "$device")" "$machine" "$versions"
    printf '"steps":[\n%s\n],\n' "$(objects "$work/steps.jsonl")"
    printf '"tests":[\n%s\n],\n' "$(objects "$work/tests.jsonl")"
    printf '"timings":[\n%s\n],\n' "$(objects "$work"/reports-*.jsonl)"
    printf '"training":%s\n}\n' "$training"
  } >"$results/figures.partial" && mv "$results/figures.partial" "$results/figures.json"
}

training=null torch='' libraries='' machine='{}' versions='{}'
# shellcheck disable=SC2329 # a trap calls it
finish() {
  trap - EXIT INT TERM
  for child in $(jobs -pr); do kill -TERM "$child" 2>/dev/null; done
  tar -czf "$results/logs.tar.gz" -C "$work" logs 2>/dev/null
  if (($(stat -c %s "$results/logs.tar.gz") > 15 << 20)); then
    rm -f "$results/logs.tar.gz"
    note "logs" failed 0 "larger than 15 MiB: left out"
  fi
  write_figures
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 143' INT TERM

# --- Preparation ------------------------------------------------------------------------------------------------------

# shellcheck source=/dev/null
[[ -e $here/settings.sh ]] && . "$here/settings.sh"
train=${NUMFORMER_TRAIN:-desk-eigenvalues-5x5}
if [[ -e $here/programs.tar.xz ]]; then
  archive=$here/programs.tar.xz
  # Not every machine has xz, which Python has, too.
  unpack() { tar -xJf "$archive" -C "$work" 2>/dev/null || "$python" -c \
    'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$work"; }
else
  archive=$here/programs.tar.gz
  unpack() { tar -xzf "$archive" -C "$work"; }
fi
begin=$now
unpack >"$logs/unpack.log" 2>&1
code=$?
set_now
took=$((now - begin))
if ((code == 0)); then note unpack passed "$took" ""; else note unpack failed "$took" "$(why "$logs/unpack.log")"; fi
export NUMFORMER_GOLDEN=$work/golden
# Tests must not pass on the host alone.
[[ $device == cpu ]] || export NUMFORMER_NEEDS_GPU=1
# A device that is opened in one thread while another records would spoil the recording.
export RUST_TEST_THREADS=1
# Kernels are compiled for the GPU when they are first loaded: once for all programs.
export CUDA_CACHE_PATH=$work/cache CUDA_CACHE_MAXSIZE=4294967296
script=$work/torch_baseline.py

run_for "$(least 40000 $((total_ms / 5)))" torch "$python" -c \
  'import sys, torch; torch.zeros(1, device=sys.argv[1]); print(torch.__version__)' "$device"
if ((code == 0)); then
  torch=$(tail -n 1 "$logs/torch.log")
  note torch passed "$took" "$torch"
else
  note torch failed "$took" "$(why "$logs/torch.log")"
fi
libraries=$(find_libraries)
# For our programs only: Python finds its own.
with_libraries=()
[[ -z $libraries ]] || with_libraries=(env "LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
ours=("${with_libraries[@]}" "$work/numformer")
machine=$(describe_machine)
versions=$(describe_versions)
write_figures

# --- PyTorch, which compiles while we test ----------------------------------------------------------------------------

# Starts PyTorch for a shape and a batch. It prepares all modes, then waits for requests.
declare -A torch_pid torch_ask
start_torch() {
  [[ -n $torch ]] || return
  local id=$1-$2 windows=$3 length=$4
  mkfifo "$work/ask-$id"
  # Several compile at once, while tests run.
  TORCHINDUCTOR_COMPILE_THREADS=4 timeout -k 2 "$(in_seconds $((training_end - now)))" "$python" "$script" \
    --config "$1" --batch "$2" --device "$device" --bf16 --modes eager,default,graphs --on-request \
    --generate --windows "$windows" --seconds "$length" \
    <"$work/ask-$id" >"$work/answers-$id" 2>"$logs/torch-$id.log" &
  torch_pid[$id]=$!
  # Open for reading, too, so that nothing waits for PyTorch, and no signal comes if it has ended.
  local ask
  exec {ask}<>"$work/ask-$id"
  torch_ask[$id]=$ask
  request "$id" prepare
}
request() { echo "$2" >&"${torch_ask[$1]}"; }

# Waits until PyTorch has answered this many requests, or a time has come, or it has ended.
await_torch() {
  local id=$1 count=$2 until=$3
  set_now
  while ((now < until)); do
    (($(cat "$work/answers-$id" 2>/dev/null | grep -c '^end') >= count)) && return 0
    kill -0 "${torch_pid[$id]}" 2>/dev/null || return 1
    sleep 0.05
    set_now
  done
  return 1
}

stop_torch() {
  local id=$1
  [[ -n ${torch_pid[$id]:-} ]] || return
  local ask=${torch_ask[$id]}
  exec {ask}>&-
  kill -TERM "${torch_pid[$id]}" 2>/dev/null
  wait "${torch_pid[$id]}" 2>/dev/null
  unset "torch_pid[$id]"
}

# The length of a window of a timing: half a second if there is time for all.
window=$((timings_ms / 600))
window=$(in_seconds $((window < 50 ? 50 : window)))
first_jobs=("T1 64" "T3 64" "T4 64")
later_jobs=("T1 512" "T3 512" "T2 64" "T4 512" "T2 512")
# With few cores, it would only slow down the tests.
set_now
if (($(nproc) >= 8)); then
  for job in "${first_jobs[@]}"; do start_torch "${job% *}" "${job#* }" 3 "$window"; done
fi

# --- Correctness ------------------------------------------------------------------------------------------------------

phase=correctness
if check nvidia-smi nvidia-smi; then
  note nvidia-smi passed "$took" ""
  # How busy and how fast it is, in the logs.
  nvidia-smi --query-gpu=timestamp,utilization.gpu,clocks.sm,power.draw,memory.used --format=csv --loop=2 \
    >"$logs/gpu.csv" 2>&1 </dev/null &
fi

share=25
if check open-device "${ours[@]}" bench --json --config T5 --device "$device" --windows 1 --seconds 0.1; then
  note open-device passed "$took" "$device"
fi
share=50

# A program of tests. The tests look for the device themselves.
run_tests() {
  local name=$1 passed=0 failed=0 ignored=0 failures=''
  if ! set_limit "$correctness_end" "$share"; then
    note "$name" "left out" 0 "no time was left"
    return
  fi
  shift
  run_for "$limit" "$name" "${with_libraries[@]}" "$work/tests/$name" "$@"
  while read -r line; do
    if [[ $line =~ ^'test result: '.*' '([0-9]+)' passed; '([0-9]+)' failed; '([0-9]+)' ignored' ]]; then
      passed=${BASH_REMATCH[1]} failed=${BASH_REMATCH[2]} ignored=${BASH_REMATCH[3]}
    elif [[ $line =~ ^'test '(.+)' ... FAILED' ]]; then
      failures+="${failures:+, }${BASH_REMATCH[1]}"
    fi
  done < <(grep -a '^test ' "$logs/$name.log" 2>/dev/null)
  if ((code == 0 && passed > 0)); then
    note "$name" passed "$took" "$passed tests"
  elif ((code == 0)); then
    note "$name" failed "$took" "no test ran: $(reason_in "$logs/$name.log")"
  else
    note "$name" failed "$took" "${failures:+$failures: }$(why "$logs/$name.log")"
  fi
  printf '{"name":%s,"passed":%d,"failed":%d,"ignored":%d,"failures":%s}\n' "$(json_string "$name")" \
    "$passed" "$failed" "$ignored" "$(json_string "$failures")" >>"$work/tests.jsonl"
}
run_tests operations device::
# The test of compositions compares them on the host.
run_tests device-step --skip all_models_are_computed
run_tests on-device

# A small model, which learns to transpose within seconds. The share of exact answers is in the report.
if check learning "${ours[@]}" train transpose-3x3 --quiet --json --device "$device" --run-dir "$work/learning"; then
  if [[ $(grep -a '^{' "$logs/learning.log" | tail -n 1) =~ '"exact":'([0-9.e+-]+) ]]; then
    exact=${BASH_REMATCH[1]}
    if [[ $exact =~ ^(1|1\.0*|0\.9[5-9][0-9]*|0\.9[5-9])$ ]]; then outcome=passed; else outcome=failed; fi
    note learning "$outcome" "$took" "exact $exact of unseen matrices; expected 0.95 or more"
  else
    note learning failed "$took" "the report has no share of exact answers: $(reason_in "$logs/learning.log")"
  fi
fi

# The only rank of a job that NCCL connects, as torchrun would start it, takes the steps of a process without ranks. Sums
# are rounded elsewhere, so that the losses of the first steps agree to six digits.
losses_of() {
  local pattern='"loss":([0-9]+)\.([0-9]+)' line digits
  while read -r line; do
    [[ $line =~ $pattern ]] || continue
    digits=${BASH_REMATCH[2]}00000
    printf '%d ' "$((10#${BASH_REMATCH[1]}${digits:0:5}))"
  done < <(grep -a -m 5 '"event":"step"' "$1/metrics.jsonl" 2>/dev/null)
}
one=(train transpose-3x3 --quiet --device "$device" --steps 20 --set log.every=1 --set evaluate.examples=16)
if check nccl-none "${ours[@]}" "${one[@]}" --run-dir "$work/nccl-none" &&
  check nccl-one env RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 "${ours[@]}" "${one[@]}" --run-dir "$work/nccl-one"; then
  read -r -a none <<<"$(losses_of "$work/nccl-none")"
  read -r -a with <<<"$(losses_of "$work/nccl-one")"
  outcome=failed
  if ((${#none[@]} == 5 && ${#with[@]} == 5)); then
    outcome=passed
    for at in 0 1 2 3 4; do
      difference=$((none[at] - with[at]))
      ((${difference#-} <= 2)) || outcome=failed
    done
  fi
  note nccl "$outcome" "$took" "losses ${with[*]:-}, without NCCL ${none[*]:-}, in 1e-5"
fi

# A run that stops after 100 steps and is resumed ends with the same bits as one that does not stop.
short=(--quiet --device "$device" --set train.precision=bf16 --set evaluate.examples=16)
if check resume-whole "${ours[@]}" train transpose-3x3 "${short[@]}" --steps 200 --run-dir "$work/whole"; then
  whole_took=$took
  if check resume-first "${ours[@]}" train transpose-3x3 "${short[@]}" --steps 100 --run-dir "$work/parts" &&
    check resume-second "${ours[@]}" resume "$work/parts" --quiet --device "$device" --steps 200; then
    weights=checkpoints/step-0000000200/model.safetensors
    if cmp "$work/whole/$weights" "$work/parts/$weights" >"$logs/resume.log" 2>&1; then
      note resume passed $((whole_took + took)) "the same weights, bit for bit"
    else
      note resume failed $((whole_took + took)) "$(reason_in "$logs/resume.log")"
    fi
  fi
fi

run_tests parity
write_figures

# --- Timings ----------------------------------------------------------------------------------------------------------

phase=timings
set_now
timings_end=$(least $((now + timings_ms)) $((began + total_ms * 7 / 10)))

# Measures one shape in rounds, ours and PyTorch in turn.
measure() {
  local config=$1 batch=$2 windows=$3 rounds=$4 until=$5 id=$1-$2 round found=0 answered=1 problem=''
  set_now
  local begin=$now
  if ((until - now < 500)); then
    note "$config at $batch" "left out" 0 "no time was left"
    stop_torch "$id"
    return
  fi
  [[ -n ${torch_pid[$id]:-} ]] && ! await_torch "$id" 1 $((now + (until - now) * 2 / 3)) &&
    problem="PyTorch did not get ready: $(reason_in "$logs/torch-$id.log")"
  for ((round = 1; round <= rounds; round++)); do
    set_now
    ((until - now >= 300)) || break
    run_for $((until - now)) "bench-$id" "${ours[@]}" bench --json --config "$config" --batch "$batch" \
      --device "$device" --bf16 --windows "$windows" --seconds "$window" --generate
    if ((code == 0)); then
      tail -n 1 "$logs/bench-$id.log" >>"$work/reports-$id.jsonl"
      found=$((found + 1))
    else
      ((found > 0)) || problem="$(why "$logs/bench-$id.log")${problem:+; $problem}"
      break
    fi
    if [[ -n ${torch_pid[$id]:-} && $answered == "$round" ]]; then
      request "$id" round
      await_torch "$id" $((round + 1)) "$until" && answered=$((round + 1))
    fi
  done
  # If ours failed, PyTorch alone says whether the device does.
  if ((found == 0)) && [[ -n ${torch_pid[$id]:-} ]]; then
    set_now
    request "$id" round
    await_torch "$id" 2 $((now + (until - now) / 2))
  fi
  stop_torch "$id"
  grep -a '"train_steps_per_s"' "$work/answers-$id" 2>/dev/null >>"$work/reports-$id.jsonl"
  local said=''
  while read -r line; do
    [[ $line =~ '"mode": "'([a-z]+)'", "failed": "'(.*)'"}' ]] || continue
    local failure=${BASH_REMATCH[2]//\\\"/\"}
    problem+="${problem:+; }PyTorch, ${BASH_REMATCH[1]}: "
    # All modes may fail for one reason.
    if [[ $failure == "$said" ]]; then problem+="the same"; else problem+="${failure:0:200}"; fi
    said=$failure
  done < <(grep -a '"failed"' "$work/answers-$id" 2>/dev/null)
  set_now
  if ((found > 0)); then
    note "$config at $batch" passed $((now - begin)) "$found rounds${problem:+; $problem}"
  else
    note "$config at $batch" failed $((now - begin)) "${problem:-nothing was measured}"
  fi
}

# What compiles meanwhile would slow down what is measured.
set_now
ready_by=$((now + (timings_end - now) / 3))
for job in "${first_jobs[@]}"; do
  [[ -z ${torch_pid[${job/ /-}]:-} ]] || await_torch "${job/ /-}" 1 "$ready_by"
done
# Each may take half of the time that is left.
for job in "${first_jobs[@]}"; do
  read -r config batch <<<"$job"
  set_now
  # With few cores, it was not started yet.
  [[ -n ${torch_pid[$config-$batch]:-} ]] || start_torch "$config" "$batch" 3 "$window"
  measure "$config" "$batch" 3 3 $((now + (timings_end - now) / 2))
  write_figures
done
# All others prepare together, which takes the time of one.
set_now
if (($(nproc) >= 8 && timings_end - now > 20000)); then
  for job in "${later_jobs[@]}"; do start_torch "${job% *}" "${job#* }" 1 "$window"; done
  ready_by=$((now + (timings_end - now) / 2))
  for job in "${later_jobs[@]}"; do await_torch "${job/ /-}" 1 "$ready_by"; done
fi
for job in "${later_jobs[@]}"; do
  read -r config batch <<<"$job"
  set_now
  [[ -n ${torch_pid[$config-$batch]:-} ]] || ((timings_end - now < 20000)) || start_torch "$config" "$batch" 1 "$window"
  measure "$config" "$batch" 1 2 $((now + (timings_end - now) / 2))
  write_figures
done

# --- Training ---------------------------------------------------------------------------------------------------------

phase=training
run=$work/run

# Trains until a time has come: then asks the run to save and end. Saves every 30 s. Sets `code` and `took`.
train_until() {
  local until=$1 name=$2 saved
  shift 2
  set_now
  local begin=$now
  saved=$now
  # In place of the subshell, so that signals reach it.
  (exec "${ours[@]}" "$@") >"$logs/$name.log" 2>&1 </dev/null &
  local pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    set_now
    if ((now >= until)); then
      kill -TERM "$pid" 2>/dev/null
      break
    fi
    if ((now - saved >= 30000)); then
      kill -USR1 "$pid" 2>/dev/null
      saved=$now
    fi
    sleep 0.1
  done
  while kill -0 "$pid" 2>/dev/null; do
    set_now
    ((now < until + grace_ms)) || kill -KILL "$pid" 2>/dev/null
    sleep 0.05
  done
  wait "$pid" 2>/dev/null
  code=$?
  set_now
  took=$((now - begin))
}

# The steps of the latest checkpoint.
steps_saved() {
  local last
  last=$(cd "$run/checkpoints" 2>/dev/null && printf '%s\n' step-* | grep -x 'step-[0-9]*' | sort | tail -n 1)
  last=${last#step-}
  printf '%d' "$((10#${last:-0}))"
}

# Steps in 1,000 s between the first and the last line of the timings; 0 if there are too few.
set_rate() {
  local pattern='"step":([0-9]+),"seconds":([0-9]+)\.?([0-9]*)' line first='' last='' steps ms
  rate=0
  while read -r line; do
    [[ $line =~ $pattern ]] || continue
    ms=${BASH_REMATCH[3]}000
    last="${BASH_REMATCH[1]} $((BASH_REMATCH[2] * 1000 + 10#${ms:0:3}))"
    first=${first:-$last}
  done <"$run/timings.jsonl"
  [[ -n $first ]] || return
  steps=$((${last% *} - ${first% *})) ms=$((${last#* } - ${first#* }))
  ((ms > 0)) && rate=$((steps * 1000000 / ms))
}

stop_at=$((training_end - grace_ms))
precision=bf16
set_now
trained_from=$now
if ((stop_at - now < 1000)); then
  note "$train" "left out" 0 "no time was left"
else
  # Saved on request, every 30 s.
  often=(--device "$device" --set checkpoint.every=1000000000)
  # A first part shows the speed. Then evaluations, which take the time of the CPU, are set to every half minute.
  probe_until=$((now + $(least 20000 $(((stop_at - now) / 4)))))
  train_until "$probe_until" train-first train "$train" "${often[@]}" --set train.precision=bf16 --run-dir "$run"
  if ((code != 0)) && [[ ! -e $run/timings.jsonl ]]; then
    # Not every model has a step in bf16.
    rm -rf "$run"
    precision=f32
    set_now
    probe_until=$((now + $(least 20000 $(((stop_at - now) / 4)))))
    train_until "$probe_until" train-first train "$train" "${often[@]}" --run-dir "$run"
  fi
  rate=0
  [[ -e $run/timings.jsonl ]] && set_rate
  set_now
  if ((code == 0)) && ((stop_at - now > 1000)); then
    between=$(least 30000 $(((stop_at - now) / 3)))
    every=$((rate * between / 1000000))
    evaluations=()
    ((rate == 0)) || evaluations=(--set "evaluate.every=$((every > 1 ? every : 1))" --set evaluate.examples=1000)
    train_until "$stop_at" train-rest resume "$run" "${often[@]}" "${evaluations[@]}"
  fi
  log=$logs/train-rest.log
  [[ -e $log ]] || log=$logs/train-first.log
  steps=$(steps_saved)
  set_now
  training_took=$((now - trained_from))
  took=$training_took
  if ((code == 0 && steps > 0)); then
    note "$train" passed "$took" "$steps steps"
  elif ((code == 0)); then
    note "$train" failed "$took" "no step was saved: $(reason_in "$log")"
  else
    note "$train" failed "$took" "$(why "$log")"
  fi
fi

# --- Results ----------------------------------------------------------------------------------------------------------

phase=results
for name in metrics.jsonl timings.jsonl learning-curve.svg; do
  if [[ ! -e $run/$name ]]; then
    note "$name" failed 0 "the run has none"
  elif (($(stat -c %s "$run/$name") > 15 << 20)); then
    note "$name" failed 0 "larger than 15 MiB: left out"
  else
    cp "$run/$name" "$results/"
  fi
done

checkpoint=''
set_now
limit=$((began + total_ms - results_ms / 3 - now))
if [[ ! -d $run/checkpoints ]]; then
  note export "left out" 0 "no checkpoint was saved"
elif ((limit < 300)); then
  note export "left out" 0 "no time was left"
else
  run_for "$limit" export "${ours[@]}" export "$run" --bf16 --output "$work/exported"
  if ((code != 0)); then
    note export failed "$took" "$(why "$logs/export.log")"
  else
    size=$(du -sb "$work/exported" | cut -f 1)
    # With the other files, at most 8 of at most 15 MiB.
    if ((size > 45 << 20)); then
      note export "left out" "$took" "the checkpoint has $((size >> 20)) MiB: more than 45"
    elif tar -cf - -C "$work/exported" . | split -b 15M -d -a 1 - "$results/checkpoint.tar."; then
      checkpoint='checkpoint.tar.0'
      note export passed "$took" "$((size >> 10)) KiB; unpack with: cat checkpoint.tar.* | tar -x"
    else
      note export failed "$took" "it cannot be written"
      rm -f "$results"/checkpoint.tar.*
    fi
  fi
fi
training=$(printf '{"name":%s,"precision":"'"$precision"'","steps":%d,"seconds":%s,"checkpoint":%s}' "$(json_string "$train")" \
  "${steps:-0}" "$(in_seconds "${training_took:-0}")" "$(json_string "$checkpoint")")
exit 0
