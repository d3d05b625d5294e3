"""`python -m tests.fuzz`: many cases, in child processes that may crash.

A run goes on where the last one stopped, after what failed in it.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PER_CHILD = 150  # signatures: a process keeps every function it traced


def main() -> int:
    """The command; returns how many signatures failed, at most 1."""
    options = _options()
    if options.cpu and (options.case or options.child is not None):
        _compile_for(options.cpu)
    if options.case:
        return _replay(options.case, options.device)
    if options.child is not None:
        return _child(options)
    log = Path(options.log or ROOT / "build" / f"fuzz-{options.seed}.jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        log.unlink(missing_ok=True)
    _run(options, log)
    text, failed = _summary(options, log)
    print(text)
    if options.summary:
        Path(options.summary).write_text(text)
    return int(failed > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many (100000)")
    parser.add_argument("--each", type=int, default=50, help="cases of one signature, which compiles once (50)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other cases (0)")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long; a later run goes on (0: never)")
    parser.add_argument("--cpu", default="", help="compile for a processor that this one can stand in for: x86-64-v3")
    parser.add_argument("--device", default="cpu", help="where tensors are: cpu, or cuda (cpu)")
    parser.add_argument("--jobs", type=int, default=1, help="child processes at a time (1)")
    parser.add_argument("--fresh", action="store_true", help="not from where the last run with this seed stopped")
    parser.add_argument("--log", help="what was done, a line a signature (build/fuzz-SEED.jsonl)")
    parser.add_argument("--summary", help="file to write the summary to")
    parser.add_argument("--only", default="", help="only signatures whose text has this in it")
    parser.add_argument("--case", help="run this one case, as a failure printed it")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=PER_CHILD, help=argparse.SUPPRESS)
    return parser.parse_args()


def _compile_for(cpu: str) -> None:
    from gossamer.compiler.library import library

    library().host_cpu, library().host_features = cpu, ""


def _replay(text: str, device: str) -> int:
    from .cases import Case
    from .check import Compiled

    case = Case.loads(text)
    Compiled(case.signature, device).check(case)
    print("right")
    return 0


# --- the child: signatures from number `child` on, a line of JSON each


def _child(options: argparse.Namespace) -> int:
    from .cases import signatures

    current = os.open(os.environ["GOSSAMER_FUZZ_CURRENT"], os.O_WRONLY | os.O_CREAT)
    numbered = enumerate(signatures(options.seed))
    start = time.monotonic()
    for number, signature in itertools.islice(numbered, options.child, options.child + options.count):
        if options.only not in str(signature):
            print(json.dumps({"number": number, "cases": 0}), flush=True)
            continue
        if (options.minutes and time.monotonic() - start > options.minutes * 60) or os.getppid() == 1:
            break
        print(json.dumps(_checked(options, number, signature, current)), flush=True)
    return 0


def _checked(options: argparse.Namespace, number: int, signature: Any, current: int) -> dict[str, Any]:
    from .cases import cases
    from .check import Compiled, Failure

    start = time.perf_counter()
    done: dict[str, Any] = {"number": number, "operation": signature.operation, "dtype": signature.dtype, "cases": 0}
    compiled = Compiled(signature, options.device)
    for case in itertools.islice(cases(signature, str(options.seed)), options.each):
        os.pwrite(current, case.dumps().encode() + b"\n", 0)
        try:
            compiled.check(case)
        except Failure as failure:
            done["failure"], done["case"] = str(failure), case.dumps()
            break
        done["cases"] += 1
    if roads := compiled.dense_roads():
        done["dense"], done["format"] = roads, signature.format
    done["seconds"] = round(time.perf_counter() - start, 3)
    return done


# --- the parent: starts children, and writes down what they say, and where they die


def _read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _run(options: argparse.Namespace, log: Path) -> None:
    done = [entry for entry in _read(log) if "failure" not in entry]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in done))
    total = sum(entry["cases"] for entry in done)
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    parts = _parts({entry["number"] for entry in done})
    lock, interrupted = threading.Lock(), threading.Event()

    def ended() -> bool:
        return total >= options.cases or time.monotonic() > deadline or interrupted.is_set()

    def work(folder: Path) -> None:
        nonlocal total
        folder.mkdir()
        while not ended():
            with lock:
                part = next(parts)
            while part and not ended():
                for entry in _from_child(folder, part):
                    with lock:
                        total += _note(lines, entry)
                    part = range(entry["number"] + 1, part.stop)
                    if ended():
                        break

    with tempfile.TemporaryDirectory() as folder, log.open("a") as lines, ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(work, Path(folder, str(number))) for number in range(options.jobs)]
        try:
            for job in jobs:
                job.result()
        finally:
            interrupted.set()


def _parts(done: set[int]) -> Iterator[range]:
    """Signatures that are not done, as many together as a child does: what was left out, then new ones."""
    following = 1 + max(done, default=-1)
    start = 0
    while start < following:
        stop = start
        while stop not in done and stop < min(following, start + PER_CHILD):
            stop += 1
        if start < stop:
            yield range(start, stop)
        start = max(stop, start + 1)
    for start in itertools.count(following, PER_CHILD):
        yield range(start, start + PER_CHILD)


def _from_child(folder: Path, part: range) -> Iterator[dict[str, Any]]:
    """What a child writes about these signatures; the last entry is where it crashed, if it did."""
    current, number = folder / "case", part.start
    # Memory that nobody wrote is full of huge numbers, and does not pass for zeros.
    environment = {"OMP_WAIT_POLICY": "passive", "MALLOC_PERTURB_": "128", **os.environ}
    environment.setdefault("GOSSAMER_CACHE_DIR", str(folder.parent / "cache"))
    environment["GOSSAMER_FUZZ_CURRENT"] = str(current)
    command = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:], "--child", str(number), "--count", str(len(part))]
    # In a session of its own: what interrupts a run is no failure of a case.
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, start_new_session=True
    )
    assert child.stdout is not None
    try:
        for line in child.stdout:
            yield (entry := json.loads(line))
            number = entry["number"] + 1
        if child.wait():
            case = json.loads(current.read_text().splitlines()[0])
            what = {"operation": case["signature"]["operation"], "dtype": case["signature"]["dtype"]}
            crash = f"the process ended with {child.returncode}"
            yield {"number": number, "cases": 0, **what, "failure": crash, "case": json.dumps(case)}
    finally:
        child.terminate()
        child.wait()


def _note(lines: Any, entry: dict[str, Any]) -> int:
    lines.write(json.dumps(entry) + "\n")
    lines.flush()
    if "failure" in entry:
        print(f"signature {entry['number']}: {entry['failure']}\n  python -m tests.fuzz --case '{entry['case']}'")
        sys.stdout.flush()
    return entry["cases"]


def _summary(options: argparse.Namespace, log: Path) -> tuple[str, int]:
    done = [entry for entry in _read(log) if "operation" in entry]
    cases: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    for entry in done:
        cases[entry["operation"]] += entry["cases"]
        dtypes[entry["dtype"]] += entry["cases"]
    roads = Counter(entry["operation"] for entry in done if "dense" in entry)
    failures = [entry for entry in done if "failure" in entry]
    seconds = sum(entry.get("seconds", 0.0) for entry in done)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    cpu = f", compiled for {options.cpu}" if options.cpu else ""
    lines = [
        f"fuzz: {sum(cases.values())} cases of {len(done)} signatures, {len(failures)} of which failed",
        f"{datetime.date.today()}, commit {commit.stdout.strip()}, seed {options.seed}, {seconds:.0f} s, "
        f"Python {platform.python_version()}, {platform.machine()}{cpu}",
        "a case: operation x storage format x dtype x index widths x sizes x pattern x values, against dense float64",
        "",
        *(f"{count:8} {name}" for name, count in sorted(cases.items(), key=lambda pair: pair[0].lower())),
        "",
        *(f"{count:8} {name}" for name, count in sorted(dtypes.items())),
        "",
        f"signatures whose kernels make a sparse operand dense: {sum(roads.values())}",
        *(f"{count:8} {name}" for name, count in roads.most_common()),
        "",
        *(f"FAILED {entry['failure']}\n  python -m tests.fuzz --case '{entry['case']}'" for entry in failures),
    ]
    return "\n".join(lines).rstrip() + "\n", len(failures)
