"""The command: ``python -m benchmarks`` (docs/performance.md)."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import command, say
from benchmarks.contestants import CONTESTANTS, PER_STEP, Contestant, Task
from benchmarks.limit import limit
from benchmarks.networks import MODELS, NETS, make_graph, make_images, make_network
from benchmarks.report import Row, compare, plot, table, write_summary
from benchmarks.worker import Worker
from negspike import SpikingNetwork
from negspike.commands.images import positive
from negspike.console import Progress
from negspike.errors import InputError
from negspike.files import write_json, write_text

QUICK_STEPS = 20
FOLDER = Path(__file__).parent / "results"
PACKAGES = ("negspike", "numpy", "torch", "numba", "spikingjelly", "sinabs", "snntorch")


@dataclass(frozen=True)
class Case:
    """One network, by its weight_bits, and the images it is shown."""

    net: str
    setting: str
    networks: dict[int, Path]
    images: Path
    timesteps: int

    @property
    def name(self) -> str:
        """For lines of progress and of errors."""
        return f"{self.net} {self.setting}".strip()


def make_cases(arguments: argparse.Namespace, bits: set[int], scratch: Path) -> Iterator[Case]:
    """Networks and images, made or brought along, as files that other processes can read."""
    images = scratch / "images.npy"
    if arguments.network is not None:
        network = SpikingNetwork.load(arguments.network)
        np.save(images, given_images(arguments, network))
        name, k = str(network.origin.get("net", arguments.network.stem)), network.origin.get("k")
        paths, setting = {network.weight_bits: arguments.network}, "" if k is None else f"k{k}"
        yield Case(name, setting, paths, images, steps_of(network, arguments))
        return
    chains = [(net, f"k{k}", partial(make_network, net, k)) for net in arguments.nets for k in arguments.k]
    graphs = [
        (name, f"levels {levels}", partial(make_graph, name, levels, arguments.size))
        for name in arguments.model
        for levels in arguments.levels
    ]
    for net, setting, build in [*chains, *graphs]:
        networks = {width: scratch / f"{net}_{setting}_{width}.npz" for width in bits}
        for width, path in networks.items():
            network = build(weight_bits=width)
            network.save(path)
        np.save(images, make_images(arguments.images, network.input_shape))
        yield Case(net.rpartition(".")[2], setting, networks, images, steps_of(network, arguments))


def steps_of(network: SpikingNetwork, arguments: argparse.Namespace) -> int:
    """Until everything is silent where that is certified, else the command's T."""
    bound = network.latency_bound
    steps = arguments.timesteps if bound is None else bound + 1
    return int(min(steps, QUICK_STEPS) if arguments.quick else steps)


def given_images(arguments: argparse.Namespace, network: SpikingNetwork) -> np.ndarray:
    """Test images of a prepared dataset, or noise where none is given."""
    if arguments.data is None:
        return make_images(arguments.images, network.input_shape)
    from negspike.data.dataset import load_dataset
    from negspike.data.images import prepare_images

    dataset = load_dataset(str(network.origin.get("dataset", "cifar10")), arguments.data)
    return prepare_images(dataset.spec, dataset.test.pixels[: arguments.images])


def measure(
    case: Case, contestants: Sequence[Contestant], arguments: argparse.Namespace, absent: dict[str, str]
) -> list[Row]:
    """All contestants of one network, their repetitions interleaved.

    Args:
        case, contestants, arguments: what is measured.
        absent: gets the names of those that cannot be prepared here, and why.

    Raises:
        InputError: a repetition failed, two exact engines differ, or there is nobody to measure.
    """
    workers: list[Worker] = []
    rows: list[Row] = []
    with ExitStack() as stack:
        for contestant in contestants:
            try:
                if contestant.kind == "first call":
                    rows += first_calls(case, contestant, arguments)
                    continue
                # One after the other: nobody is prepared while somebody else is.
                workers.append(Worker(make_task(case, contestant, arguments), arguments.out / "workers.log"))
            except InputError as error:
                absent[contestant.name] = str(error)
                say(f"{case.name}: left out, {error}")
                continue
            stack.callback(workers[-1].close)
            say(f"{case.name}: {contestant.name} ready")
        progress = Progress(arguments.repetitions, "repetitions")
        for repetition in range(1, arguments.repetitions + 1):
            for worker in workers:
                worker.repeat()
            say(f"{case.name}: repetition {repetition}/{arguments.repetitions}, {progress.left(repetition)}")
        recordings = {worker.task.contestant: worker.recording() for worker in workers}
    if not workers and not rows:
        raise InputError(f"{case.name}: there is nobody to measure")
    check_agreement(case.name, recordings)
    return rows + summarise(case, workers, recordings)


def make_task(case: Case, contestant: Contestant, arguments: argparse.Namespace) -> Task:
    """What a contestant's process is told."""
    steps, threads = case.timesteps * contestant.longer, contestant.threads or arguments.threads
    return Task(contestant, case.networks[contestant.weight_bits], case.images, steps, threads, arguments.quick)


def first_calls(case: Case, contestant: Contestant, arguments: argparse.Namespace) -> list[Row]:
    """The first image of a new process, with an empty cache of compiled code and with a filled one."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for variant in ("empty cache", "filled cache"):
            task, environment = make_task(case, contestant, arguments), {"NUMBA_CACHE_DIR": cache}
            worker = Worker(task, arguments.out / "workers.log", environment)
            worker.repeat()
            worker.close()
            rows.append(replace(make_row(case, worker), variant=variant))
            say(f"{case.name}: first call with {variant} {rows[-1].seconds_best:.2f} s")
    return rows


def check_agreement(where: str, recordings: Mapping[Contestant, Mapping[str, np.ndarray]]) -> None:
    """Compare every integer that two exact engines both computed, on the images and steps that both simulated.

    Raises:
        InputError: they differ; then no time means anything.
    """
    exact = [(contestant, recording) for contestant, recording in recordings.items() if "sops" in recording]
    for (other, theirs), (one, mine) in combinations(exact, 2):
        if one.weight_bits != other.weight_bits:
            continue
        images, steps = np.minimum(mine["sops"].shape, theirs["sops"].shape)
        # counts and logits are those after the last step
        same_steps = mine["sops"].shape[1] == theirs["sops"].shape[1]
        for key in [key for key in mine if same_steps or key in PER_STEP]:
            part = (slice(images), slice(steps)) if key in PER_STEP else slice(images)
            if not np.array_equal(mine[key][part], theirs[key][part]):
                names = f"{one.name} and {other.name}"
                raise InputError(f"{where}: {names} differ in {key}: nothing is reported until they agree")


def summarise(
    case: Case, workers: Sequence[Worker], recordings: Mapping[Contestant, Mapping[str, np.ndarray]]
) -> list[Row]:
    """Rows of the table. SOPs are those of the exact network with these weights, over T steps."""
    timesteps = case.timesteps
    exact: dict[int, Mapping[str, np.ndarray]] = {}
    for contestant, recording in recordings.items():
        if "sops" in recording and recording["sops"].shape[1] >= timesteps:
            exact.setdefault(contestant.weight_bits, recording)
    rows = {worker.task.contestant.name: make_row(case, worker) for worker in workers}
    for contestant, recording in recordings.items():
        row, known, own = rows[contestant.name], exact.get(contestant.weight_bits), recording.get("final_predictions")
        if known is not None:
            row.sops_per_image = float(known["sops"][:, :timesteps].sum(1).mean())
        if known is not None and own is not None:
            same = own[: len(known["sops"])] == known["predictions"][: len(own), timesteps - 1]
            row.note = f"{same.sum()} of {len(same)} predictions as exact"
        once = rows.get(row.contestant.removesuffix("-2T"), row)
        if once is not row:
            row.note = f"{row.seconds_best / once.seconds_best:.3f} times as long as T"
    return list(rows.values())


def make_row(case: Case, worker: Worker) -> Row:
    """Seconds an image for T time steps, scaled where fewer were simulated."""
    task, measurements = worker.task, worker.measurements
    scaled = [m["seconds"] / m["images"] * task.timesteps / m["steps"] for m in measurements]
    return Row(
        net=case.net,
        setting=case.setting,
        contestant=task.contestant.name,
        threads=task.threads,
        timesteps=task.timesteps,
        images=measurements[0]["images"],
        repetitions=len(scaled),
        seconds_best=min(scaled),
        seconds_median=float(np.median(scaled)),
        peak_bytes=max(m["peak_bytes"] for m in measurements),
        **worker.prepared,
    )


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where and with what this was measured."""
    model, versions = platform.processor(), dict.fromkeys(PACKAGES, "not installed")
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    used = {key: str(value) for key, value in sorted(vars(arguments).items())}
    system = {"system": platform.platform(), "python": platform.python_version(), "load_average": os.getloadavg()[0]}
    return {"processor": model, "cores": os.cpu_count(), **system, "versions": versions, "arguments": used}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    description = "Measure the spiking engines side by side, in one run."
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=description)
    parser.add_argument("--nets", nargs="+", choices=list(NETS), help="synthetic networks")
    parser.add_argument("--model", nargs="+", default=[], help=f"{', '.join(MODELS)}, or dotted paths; then no --nets")
    parser.add_argument("--levels", nargs="+", type=positive, default=[3, 15], help="of the models' activations")
    parser.add_argument("--size", type=positive, default=32, help="height and width of the models' images")
    parser.add_argument("--k", nargs="+", type=int, default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--images", type=positive, default=48, help="images that the event-driven engine simulates")
    parser.add_argument("--timesteps", type=positive, default=100, help="T")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--repetitions", type=positive, default=3)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of tables and plots")
    parser.add_argument("--network", type=Path, help="a spiking.npz of your own instead of synthetic networks")
    parser.add_argument("--data", type=Path, help="its prepared dataset, such as data/cifar10.npz")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), help="contestants; without it, all of them")
    parser.add_argument("--quick", action="store_true", help="a small check that everything works; times mean nothing")
    parsed = parser.parse_args(arguments)
    if parsed.nets is None:
        parsed.nets = [] if parsed.model else ["cnn1", "cnn2"]
    if parsed.quick:
        parsed.nets, parsed.images, parsed.repetitions = [] if parsed.model else ["tiny"], min(parsed.images, 3), 1
        parsed.timesteps = min(parsed.timesteps, QUICK_STEPS)
    if parsed.data is not None and parsed.network is None:
        parser.error("--data needs --network: synthetic networks come with images of their own")
    return parsed


def run(arguments: argparse.Namespace) -> None:
    """Measure every case, write what there is after each of them."""
    chosen = [CONTESTANTS[name] for name in arguments.only or CONTESTANTS]
    if arguments.network is not None:
        # Everybody runs the user's weights as they are.
        bits = SpikingNetwork.load(arguments.network).weight_bits
        chosen = [replace(contestant, weight_bits=bits) for contestant in chosen if contestant.weight_bits == 16]
    folder, rows, absent = arguments.out, list[Row](), dict[str, str]()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "machine.json", machine(arguments))
    seconds = 0.02 if arguments.quick else 0.5
    limits = {threads: limit(threads, seconds) for threads in sorted({1, arguments.threads})}
    with tempfile.TemporaryDirectory() as scratch:
        for case in make_cases(arguments, {contestant.weight_bits for contestant in chosen}, Path(scratch)):
            rows += measure(case, chosen, arguments, absent)
            compare(rows, limits)
            # What is compiled depends on types only, so once is enough.
            chosen = [contestant for contestant in chosen if contestant.kind != "first call"]
            write_summary(rows, folder / "summary.csv")
            write_text(folder / "table.md", table(rows, limits, absent))
            plot(rows, limits[arguments.threads], folder)
    print(table(rows, limits, absent))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run(parse(arguments))
