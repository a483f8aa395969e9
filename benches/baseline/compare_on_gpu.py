#!/usr/bin/env python3
"""numformer beside PyTorch on one GPU, in turn: training steps per second, and their ratio.

  benches/baseline/compare_on_gpu.py target/cuda-build/numformer
  benches/baseline/compare_on_gpu.py numformer --configs T1,T3 --batches 64 --rounds 5 --python venv/bin/python

Needs the command built for GPUs (cargo xtask cuda-build) and a Python that has PyTorch with CUDA. In each round our command,
eager PyTorch and PyTorch compiled with max-autotune (CUDA graphs) run once, one after another. The medians of the rounds are
printed as a table; every single report goes to the file that --log names, one line of JSON each.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).with_name("torch_baseline.py")


def fail(reason):
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(1)


def report(command, log, optional=False):
    """The report that a command prints as its last line. If it fails, all ends; or it is noted, where that is optional."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        fail(f"cannot run {command[0]}: {error.strerror}")
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or ["no output"]
        reason = next((line for line in said if line.startswith("error:")), said[-1])
        if not optional:
            fail(f"{' '.join(command)} failed: {reason}")
        print(f"left out: {' '.join(command)}: {reason}", file=sys.stderr)
        log.write(json.dumps({"command": command, "failed": reason}) + "\n")
        return None
    found = json.loads(lines[-1])
    log.write(json.dumps({"command": command, **found}) + "\n")
    log.flush()
    return found


def median(reports):
    rates = [r["train_steps_per_s"]["median"] for r in reports if r]
    return statistics.median(rates) if rates else None


def figure(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("numformer", help="the command, built for GPUs")
    p.add_argument("--python", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    p.add_argument("--device", default="cuda:0", help="the GPU (default: %(default)s)")
    p.add_argument("--configs", default="T1,T2,T3,T4", help="shapes (default: %(default)s)")
    p.add_argument("--batches", default="64,512", help="examples per step (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    p.add_argument("--seconds", type=float, default=2.0, help="length of each of three windows of a run (default: %(default)s)")
    p.add_argument("--f32", action="store_true", help="single precision instead of bf16")
    p.add_argument("--generate", action="store_true", help="greedy decoding of our command, too")
    p.add_argument("--log", default="gpu-comparison.jsonl", help="file to which all reports are added (default: %(default)s)")
    a = p.parse_args()

    timing = ["--windows", "3", "--seconds", str(a.seconds)]
    precision = [] if a.f32 else ["--bf16"]
    torch = [a.python, str(SCRIPT), "--device", a.device, *precision, *timing]
    print("| config | batch | numformer, steps/s | examples/s | eager | ratio | compiled | ratio |" + (" greedy, examples/s |" if a.generate else ""))
    print("|---|---|---|---|---|---|---|---|" + ("---|" if a.generate else ""))
    with open(a.log, "a") as log:
        for config in a.configs.split(","):
            for batch in map(int, a.batches.split(",")):
                shape = ["--config", config, "--batch", str(batch)]
                ours, eager, compiled = [], [], []
                for _ in range(a.rounds):
                    generate = ["--generate"] if a.generate else []
                    own = [a.numformer, "bench", "--json", "--device", a.device, *precision, *timing, *shape, *generate]
                    ours.append(report(own, log))
                    eager.append(report([*torch, *shape], log))
                    # Not every version compiles every shape.
                    compiled.append(report([*torch, *shape, "--compile"], log, optional=True))
                rates = [median(ours), median(eager), median(compiled)]
                ratio = [rates[0] / other if rates[0] and other else None for other in rates[1:]]
                cells = [config, str(batch), figure(rates[0]), figure(rates[0] and rates[0] * batch, 0)]
                cells += [figure(rates[1]), figure(ratio[0], 2), figure(rates[2]), figure(ratio[1], 2)]
                if a.generate:
                    greedy = [r["greedy_examples_per_s"] for r in ours if r]
                    cells.append(figure(statistics.median(greedy) if greedy else None, 0))
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
