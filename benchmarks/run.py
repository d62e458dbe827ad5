"""The command: ``python -m benchmarks`` (docs/performance.md)."""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.contestants import CONTESTANTS, Contestant, Task, unavailable
from benchmarks.images import make_images
from benchmarks.limit import WIDTHS, additions_in_registers_per_second, row_additions_per_second
from benchmarks.networks import FOLDER, NETS, make_network
from benchmarks.report import Row, plot, table
from negspike import SpikingNetwork
from negspike.console import Progress
from negspike.errors import InputError
from negspike.files import write_json, write_text

ROOT = Path(__file__).parents[1]
RAW_COLUMNS = (
    *("net", "k", "contestant", "threads", "variant", "event", "repetition"),
    *("seconds", "images", "timesteps", "peak_bytes", "detail"),
)


@dataclass(frozen=True)
class Case:
    """One network and the images it is shown; networks by their weight_bits."""

    net: str
    k: int
    networks: dict[int, Path]
    images: Path
    count: int


class Worker:
    """A contestant's process."""

    def __init__(self, contestant: Contestant, task: Task, environment: dict[str, str], log: IO[str]) -> None:
        self.contestant, self.task = contestant, task
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(task.to_json())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        self.measurements: list[dict[str, Any]] = []
        self.prepared: dict[str, Any] = {}
        self.recording: dict[str, np.ndarray] = {}

    def ask(self, line: str | None = None) -> dict[str, Any]:
        """Send a line, wait for the answer.

        Raises:
            InputError: the contestant failed; what it printed is in the log.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            if line is not None:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()
            text = self.process.stdout.readline()
        except BrokenPipeError:
            text = ""
        answer = json.loads(text) if text else {"error": f"its process ended with {self.process.wait()}"}
        if "error" in answer:
            raise InputError(f"{self.contestant.name}: {answer['error']}")
        return dict(answer)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@dataclass
class Benchmark:
    """A run of the command.

    Attributes:
        arguments: of the command line.
        contestants: who takes part.
        folder: where results go.
        rows: one a (network, contestant), as they come.
    """

    arguments: argparse.Namespace
    contestants: list[Contestant]
    folder: Path
    absent: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    limit: dict[int, float] = field(default_factory=dict)

    def run(self, cases: Sequence[Case]) -> None:
        """Measure every case, write what there is after each of them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "machine.json", machine(self.arguments))
        with open(self.folder / "raw.csv", "w", encoding="utf-8", newline="") as stream:
            self.stream = stream
            self.raw = csv.DictWriter(stream, RAW_COLUMNS, restval="", lineterminator="\n")
            self.raw.writeheader()
            self.measure_limit()
            progress = Progress(len(cases), "networks")
            for number, case in enumerate(cases):
                self.measure(case, number, progress)
                self.write()
        print(table(self.rows, self.limit, self.absent))

    def record(self, **values: Any) -> None:
        """One line of the raw measurements, on disk at once."""
        self.raw.writerow(values)
        self.stream.flush()

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def measure_limit(self) -> None:
        """Row additions per second, the most an event-driven engine could reach here, by the better of two loops."""
        seconds = 0.02 if self.arguments.quick else 0.5
        for threads in sorted({1, self.arguments.threads}):
            rates = {
                f"plain loop, width {width}": row_additions_per_second(threads, width, seconds) for width in WIDTHS
            }
            rates["sums in registers"] = additions_in_registers_per_second(threads, seconds)
            self.limit[threads] = max(rates.values())
            for variant, rate in rates.items():
                self.record(contestant="limit", threads=threads, variant=variant, event="rate", detail=f"{rate:.4g}")
            best = max(rates, key=lambda variant: rates[variant])
            self.say(f"limit, {threads} threads: {self.limit[threads] / 1e9:.1f} billion row additions/s ({best})")

    def measure(self, case: Case, done: int, progress: Progress) -> None:
        """All contestants of one network, their repetitions interleaved."""
        name = f"{case.net} k{case.k}"
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch, open(self.folder / "workers.log", "a", encoding="utf-8") as log:
            self.first_calls(case, Path(scratch), log)
            workers: list[Worker] = []
            try:
                for number, contestant in enumerate(c for c in self.contestants if c.kind != "first call"):
                    # One after the other: nobody is prepared while somebody else is.
                    worker = Worker(contestant, self.task(case, contestant), self.environment(contestant), log)
                    workers.append(worker)
                    worker.prepared = worker.ask()
                    self.record_prepared(case, worker)
                    self.say(f"{name}: {contestant.name} ready ({number + 1}/{len(self.contestants)})")
                for repetition in range(self.arguments.repetitions):
                    before = time.monotonic()
                    for worker in workers:
                        self.repeat(case, worker, repetition)
                    now = time.monotonic()
                    # the share of this network by time: getting ready takes longer than a repetition
                    rest = (now - before) * (self.arguments.repetitions - repetition - 1)
                    share = (now - started) / max(now - started + rest, 1e-9)
                    left = progress.left(done + share) or "an unknown time left"
                    self.say(f"{name}: repetition {repetition + 1}/{self.arguments.repetitions}, about {left}")
                for worker in workers:
                    path = Path(scratch) / f"{worker.contestant.name}.npz"
                    worker.ask(f"save {path}")
                    with np.load(path, allow_pickle=False) as stored:
                        worker.recording = {key: stored[key] for key in stored.files}
            finally:
                for worker in workers:
                    worker.close()
        check_agreement(name, workers)
        self.summarise(case, workers)

    def task(self, case: Case, contestant: Contestant) -> Task:
        task = Task(
            contestant.name,
            str(case.networks[contestant.weight_bits]),
            str(case.images),
            self.arguments.timesteps,
            self.arguments.threads,
        )
        return replace(task, seconds=0.02, batch_sizes=(1, 2), compile=False) if self.arguments.quick else task

    def environment(self, contestant: Contestant, cache: Path | None = None) -> dict[str, str]:
        """Threads and import paths of a worker."""
        threads = str(contestant.threads or self.arguments.threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | dict.fromkeys(names, threads)
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        if cache is not None:
            environment["NUMBA_CACHE_DIR"] = str(cache)
        return environment

    def first_calls(self, case: Case, scratch: Path, log: IO[str]) -> None:
        """The first image of a new process, with an empty cache of compiled code and with a filled one."""
        for contestant in self.contestants:
            # What is compiled depends on types only, so once is enough.
            if contestant.kind != "first call" or any(row.contestant == contestant.name for row in self.rows):
                continue
            for variant in ("empty cache", "filled cache"):
                worker = Worker(
                    contestant, self.task(case, contestant), self.environment(contestant, scratch / "cache"), log
                )
                try:
                    worker.prepared = worker.ask() | {"variant": variant}
                    self.repeat(case, worker, 0)
                finally:
                    worker.close()
                seconds = worker.measurements[0]["seconds"]
                self.say(f"{case.net} k{case.k}: first call with {variant} {seconds:.2f} s")
                self.rows.append(self.row(case, worker))

    def record_prepared(self, case: Case, worker: Worker) -> None:
        for variant, rate in worker.prepared["tried"].items():
            detail = rate if isinstance(rate, str) else f"{rate:.4g} image-steps/s"
            self.record(
                **self.who(case, worker) | {"variant": variant, "event": "tried", "detail": detail},
            )
        self.record(**self.who(case, worker), event="setup", seconds=f"{worker.prepared['setup_seconds']:.6f}")

    def repeat(self, case: Case, worker: Worker, repetition: int) -> None:
        measured = worker.ask("repeat")
        worker.measurements.append(measured)
        self.record(
            **self.who(case, worker),
            event="repetition",
            repetition=repetition,
            seconds=f"{measured['seconds']:.6f}",
            images=measured["images"],
            timesteps=measured["steps"],
            peak_bytes=measured["peak_bytes"],
        )

    def who(self, case: Case, worker: Worker) -> dict[str, Any]:
        return {
            "net": case.net,
            "k": case.k,
            "contestant": worker.contestant.name,
            "threads": worker.contestant.threads or self.arguments.threads,
            "variant": worker.prepared["variant"],
        }

    def summarise(self, case: Case, workers: Sequence[Worker]) -> None:
        """Rows of the table. SOPs are those of the exact network with these weights, over T steps."""
        sops: dict[int, float] = {}
        final: np.ndarray | None = None
        for worker in workers:
            recording = worker.recording
            if "sops" in recording and recording["sops"].shape[1] >= self.arguments.timesteps:
                until = slice(None, self.arguments.timesteps)
                sops.setdefault(worker.contestant.weight_bits, float(recording["sops"][:, until].sum(1).mean()))
                if worker.contestant.weight_bits == 16:
                    final = recording["predictions"][:, self.arguments.timesteps - 1]
        for worker in workers:
            row = self.row(case, worker)
            row.sops_per_image = sops.get(worker.contestant.weight_bits)
            own = worker.recording.get("final_predictions")
            if own is not None and final is not None:
                count = min(len(own), len(final))
                row.note = f"{int((own[:count] == final[:count]).sum())} of {count} predictions as exact"
            plain = worker.contestant.name.removesuffix("-2T")
            once = next((w for w in workers if w.contestant.name == plain), worker)
            if once is not worker:
                row.note = f"{row.seconds_best / self.row(case, once).seconds_best:.3f} times as long as T"
            self.rows.append(row)

    def row(self, case: Case, worker: Worker) -> Row:
        """Seconds an image for T time steps, scaled where fewer were simulated."""
        timesteps = self.arguments.timesteps * worker.contestant.longer
        scaled = [m["seconds"] / m["images"] * timesteps / m["steps"] for m in worker.measurements]
        return Row(
            case.net,
            case.k,
            worker.contestant.name,
            worker.contestant.threads or self.arguments.threads,
            worker.prepared["variant"],
            timesteps,
            worker.measurements[0]["images"],
            len(scaled),
            min(scaled),
            float(np.median(scaled)),
            worker.prepared["setup_seconds"],
            max(m["peak_bytes"] for m in worker.measurements),
            worker.prepared["imported_bytes"],
        )

    def write(self) -> None:
        """Table, CSV and plot of what has been measured so far."""
        write_text(self.folder / "table.md", table(self.rows, self.limit, self.absent))
        names = [column.name for column in fields(Row)]
        lines = [",".join(names)]
        for row in self.rows:
            lines.append(",".join(_cell(getattr(row, name)) for name in names))
        write_text(self.folder / "summary.csv", "\n".join(lines) + "\n")
        plot(self.rows, self.limit.get(self.arguments.threads), self.folder)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if "," in text else text


def check_agreement(name: str, workers: Sequence[Worker]) -> None:
    """Compare every integer that two exact engines both computed, on the images and steps that both simulated.

    Raises:
        InputError: they differ; then no time means anything.
    """
    exact = [worker for worker in workers if "sops" in worker.recording]
    for number, worker in enumerate(exact):
        for other in exact[:number]:
            if worker.contestant.weight_bits != other.contestant.weight_bits:
                continue
            mine, theirs = worker.recording, other.recording
            images = min(len(mine["sops"]), len(theirs["sops"]))
            steps = min(mine["sops"].shape[1], theirs["sops"].shape[1])
            where = f"{name}: {worker.contestant.name} and {other.contestant.name}"
            for key in ("predictions", "positive", "negative", "sops"):
                if not np.array_equal(mine[key][:images, :steps], theirs[key][:images, :steps]):
                    raise InputError(f"{where} differ in {key}: nothing is reported until they agree")
            if mine["sops"].shape[1] == theirs["sops"].shape[1]:
                for key in (key for key in mine if key.startswith("counts")):
                    if not np.array_equal(mine[key][:images], theirs[key][:images]):
                        raise InputError(f"{where} differ in {key}: nothing is reported until they agree")


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where and with what this was measured."""
    import platform
    from importlib import metadata

    versions = {}
    for package in ("negspike", "numpy", "torch", "numba", "spikingjelly", "sinabs", "snntorch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "load_average": os.getloadavg()[0],
        "arguments": {key: str(value) for key, value in sorted(vars(arguments).items())},
    }


def make_cases(arguments: argparse.Namespace, bits: set[int], scratch: Path) -> Iterator[Case]:
    """Networks and images, made or brought along, as files that workers can read."""
    if arguments.network is not None:
        network = SpikingNetwork.load(arguments.network)
        images = given_images(arguments, network)
        path = scratch / "images.npy"
        np.save(path, images)
        name = str(network.origin.get("net", arguments.network.stem))
        yield Case(name, network.k, {network.weight_bits: arguments.network}, path, len(images))
        return
    for net in arguments.nets:
        path = scratch / f"{net}.npy"
        np.save(path, make_images(arguments.images, NETS[net].shape))
        for k in arguments.k:
            networks = {}
            for width in sorted(bits):
                network = make_network(net, k, width)
                networks[width] = scratch / f"{net}_k{k}_{width}.npz"
                network.save(networks[width])
            yield Case(net, k, networks, path, arguments.images)


def given_images(arguments: argparse.Namespace, network: SpikingNetwork) -> np.ndarray:
    """Test images of a prepared dataset, or noise where none is given."""
    if arguments.data is None:
        return make_images(arguments.images, network.topology.input_shape)
    from negspike.data.dataset import load_dataset
    from negspike.data.images import prepare_images

    dataset = load_dataset(str(network.origin.get("dataset", "cifar10")), arguments.data)
    return prepare_images(dataset.spec, dataset.test.pixels[: arguments.images])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the spiking engines side by side, in one run."
    )
    parser.add_argument("--nets", nargs="+", default=["cnn1", "cnn2"], choices=list(NETS), help="synthetic networks")
    parser.add_argument("--k", nargs="+", type=int, default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--images", type=_positive, default=48, help="images that the event-driven engine simulates")
    parser.add_argument("--timesteps", type=_positive, default=100, help="T")
    parser.add_argument("--threads", type=_positive, default=2)
    parser.add_argument("--repetitions", type=_positive, default=3)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of tables and plots")
    parser.add_argument("--network", type=Path, help="a spiking.npz of your own instead of synthetic networks")
    parser.add_argument("--data", type=Path, help="its prepared dataset, such as data/cifar10.npz")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), help="contestants; without it, all of them")
    parser.add_argument("--quick", action="store_true", help="a small check that everything works; times mean nothing")
    parsed = parser.parse_args(arguments)
    if parsed.quick:
        parsed.nets, parsed.images, parsed.repetitions = ["tiny"], min(parsed.images, 3), 1
        parsed.timesteps = min(parsed.timesteps, 20)
    if parsed.data is not None and parsed.network is None:
        parser.error("--data needs --network: synthetic networks come with images of their own")
    return parsed


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error of the user's is one line."""
    parsed = parse(arguments)
    try:
        chosen = [CONTESTANTS[name] for name in parsed.only or CONTESTANTS]
        absent = {c.name: reason for c in chosen if (reason := unavailable(c)) is not None}
        if parsed.network is not None:
            bits = SpikingNetwork.load(parsed.network).weight_bits
            absent |= {c.name: f"the network has weights of {bits} bits" for c in chosen if c.name.endswith("-24bits")}
            # Everybody runs the user's weights as they are.
            chosen = [replace(c, weight_bits=bits) for c in chosen]
        chosen = [c for c in chosen if c.name not in absent]
        for name, reason in absent.items():
            print(f"{name}: left out, {reason}", file=sys.stderr)
        if not chosen:
            raise InputError("there is nobody to measure")
        with tempfile.TemporaryDirectory() as scratch:
            cases = list(make_cases(parsed, {c.weight_bits for c in chosen}, Path(scratch)))
            Benchmark(parsed, chosen, parsed.out, absent).run(cases)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
