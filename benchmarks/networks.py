"""Networks whose spike counts over time are like those of the published, trained ones.

Training a full-width net takes days of a GPU, and an event-driven engine's time depends on how many spikes there are
and when. So weights are drawn at random, batch norm is calibrated layer by layer on images, and a few numbers for each
(net, k) are tuned until synaptic operations, spikes and their course over the time steps come close to the published
ones: ``python -m benchmarks.networks --calibrate 60``. What they reach: ``python -m benchmarks.networks``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.float_network import FloatNetwork
from benchmarks.images import make_images
from negspike import SpikingNetwork
from negspike.errors import InputError
from negspike.training.quantization import round_weights
from negspike.training.topology import Shape, Topology, parse_topology

FOLDER = Path(__file__).parent / "results"
TIMESTEPS = 100
CALIBRATION_IMAGES = 24
EPS = 1e-5
LARGEST_GAIN = 6.0  # in the exponential distribution that gains are drawn from


@dataclass(frozen=True)
class Net:
    """A topology and the images it is for."""

    topology: str
    shape: Shape = (3, 24, 24)
    padding: str = "same"
    width: float = 1.0

    def parse(self) -> Topology:
        return parse_topology(self.topology, self.shape, self.padding, self.width)


NETS = {
    "cnn1": Net("96C3-256C3-P2-384C3-P2-384C3-256C3-P2-1024-1024"),
    "cnn2": Net("128C3-256C3-P2-512C3-P2-1024C3-512C3-P2-1024-512"),
    "tiny": Net("6C3-8C3-P2-10C3-P2-20", (3, 8, 8)),
}
STEPS = (1, 2, 3, 5, 7, 11, 16, 21, 31, 41, 61)


@dataclass(frozen=True)
class Published:
    """Means per image over the 10,000 test images, T = 100.

    Source: the public logs of C. Zou et al., "Towards a Lossless Conversion for Spiking Neural Networks with
    Negative-Spike Dynamics", Advanced Intelligent Systems, 2023.

    Attributes:
        spikes, net_spikes, sops: after the last step.
        sops_by: fraction of them that has happened after each of :data:`STEPS`.
    """

    spikes: float
    net_spikes: float
    sops: float
    sops_by: tuple[float, ...]


PUBLISHED: dict[tuple[str, int], Published] = {
    ("cnn1", 0): Published(
        201457.8,
        118715.9,
        270161535,
        (0.411, 0.6425, 0.7613, 0.8811, 0.9388, 0.9854, 0.998, 0.9997, 1.0, 1.0, 1.0),
    ),
    ("cnn1", 1): Published(
        362614.1,
        177080.8,
        414151035,
        (0.2942, 0.5081, 0.6343, 0.7718, 0.8459, 0.9255, 0.9707, 0.9894, 0.9988, 0.9998, 1.0),
    ),
    ("cnn1", 2): Published(
        675267.5,
        296035.1,
        730882834,
        (0.1893, 0.3525, 0.4731, 0.6283, 0.7195, 0.8238, 0.8942, 0.9358, 0.9775, 0.9928, 0.9993),
    ),
    ("cnn2", 0): Published(
        216884.5,
        132433.8,
        425885843,
        (0.3759, 0.5971, 0.7158, 0.8411, 0.909, 0.9733, 0.9952, 0.9991, 0.9999, 1.0, 1.0),
    ),
    ("cnn2", 1): Published(
        425411.6,
        212198.5,
        649162632,
        (0.2608, 0.4715, 0.6036, 0.7493, 0.829, 0.9181, 0.9703, 0.9903, 0.999, 0.9999, 1.0),
    ),
    ("cnn2", 2): Published(
        841328.1,
        379237.3,
        1175173687,
        (0.1637, 0.3075, 0.4275, 0.5977, 0.6981, 0.8085, 0.8841, 0.9304, 0.9778, 0.9939, 0.9995),
    ),
}


@dataclass(frozen=True)
class Statistics:
    """What is tuned for one (net, k).

    Attributes:
        shift: of every batch norm output, in its standard deviations; lower is sparser.
        slope: how much lower or higher the last layer's shift is than the first one's.
        feeding: added to the shift of layers that feed a 3x3 convolution, whose spikes cost the most.
        spread: of the channels' gains, the standard deviation of their logarithm. Strong channels spike long.
        common: mean of the weights in their standard deviations. Above 0 layers excite, below 0 they inhibit.
    """

    shift: float
    slope: float = 0.0
    feeding: float = 0.0
    spread: float = 0.5
    common: float = 0.0


STATISTICS: dict[tuple[str, int], Statistics] = {
    ("cnn1", 0): Statistics(shift=-0.307, slope=0.1957, feeding=0.3617, spread=0.3213, common=-0.1043),
    ("cnn1", 1): Statistics(shift=-0.2937, slope=0.5887, feeding=0.1406, spread=0.3316, common=-0.1232),
    ("cnn1", 2): Statistics(shift=-0.4449, slope=0.0193, feeding=-0.1483, spread=0.1588, common=-0.0743),
    ("cnn2", 0): Statistics(shift=-0.2063, slope=0.9323, feeding=0.2121, spread=0.3916, common=-0.1818),
    ("cnn2", 1): Statistics(shift=-0.4138, slope=0.1865, feeding=-0.0776, spread=0.2677, common=-0.1184),
    ("cnn2", 2): Statistics(shift=-0.4776, slope=-0.1968, feeding=-0.3423, spread=0.0547, common=-0.0616),
    ("tiny", 0): Statistics(0.0),
    ("tiny", 1): Statistics(0.0),
    ("tiny", 2): Statistics(0.0),
}


def build_network(net: str, k: int, statistics: Statistics, weight_bits: int = 16, seed: int = 0) -> SpikingNetwork:
    """Draw weights, calibrate batch norm on the quantised activations that pass through, convert."""
    topology = NETS[net].parse()
    images = make_images(CALIBRATION_IMAGES, topology.input_shape, seed + 1)
    x = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    depth = len(topology.layers)
    layers: list[dict[str, Any]] = []
    with torch.inference_mode():
        for number, geometry in enumerate(topology.layers):
            random = torch.Generator().manual_seed(1000 * seed + number)
            fan_in = int(np.prod(geometry.weight_shape[1:]))
            weight = torch.randn(geometry.weight_shape, generator=random)
            if number > 0:
                weight += statistics.common
            weight = round_weights(weight / fan_in**0.5, weight_bits)
            (top, bottom), (left, right) = geometry.padding
            y = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, stride=geometry.stride)
            var, mean = torch.var_mean(y, (0, 2, 3), correction=0)
            # Pareto's distribution: however strong a channel, there are some that are stronger still
            gains = torch.empty(len(var)).exponential_(1.0, generator=random)
            gamma = torch.exp(statistics.spread * (gains.clamp_max(LARGEST_GAIN) - 1))
            shift = statistics.shift + statistics.slope * (number / (depth - 1) - 0.5)
            if number + 1 < depth and topology.layers[number + 1].kind == "convolution":
                shift += statistics.feeding
            beta = gamma * shift
            column = (slice(None), None, None)
            y = (y - mean[column]) * (gamma / (var + EPS).sqrt())[column] + beta[column]
            x = y.relu_().mul_(2.0**k).add_(0.5).floor_().mul_(2.0**-k)
            parameters = {"weight": weight, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
            layers.append({name: tensor.numpy() for name, tensor in parameters.items()} | {"eps": EPS})
        random = torch.Generator().manual_seed(1000 * seed + depth)
        classifier = torch.randn((topology.features, topology.classes), generator=random).numpy()
    network = SpikingNetwork.from_batchnorm(
        topology, topology.input_shape, k, layers, classifier, weight_bits=weight_bits
    )
    return replace(network, origin={"net": net, "synthetic": asdict(statistics), "seed": seed})


def make_network(net: str, k: int, weight_bits: int = 16, folder: Path | str = FOLDER) -> SpikingNetwork:
    """The benchmark's network of a (net, k), from the cache in ``folder`` or made now.

    Another machine's PyTorch may calibrate to other last bits: then it is a slightly different network, and its
    integers are its own.

    Raises:
        InputError: there is no such net or k.
    """
    if (net, k) not in STATISTICS:
        known = ", ".join(f"{name} k{level}" for name, level in STATISTICS)
        raise InputError(f"{net} k{k}: there is no such synthetic network; there are {known}")
    statistics = STATISTICS[net, k]
    key = json.dumps([asdict(NETS[net]), asdict(statistics), CALIBRATION_IMAGES], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    path = Path(folder) / "networks" / f"{net}_k{k}_{weight_bits}bits_{digest}.npz"
    if path.exists():
        return SpikingNetwork.load(path)
    network = build_network(net, k, statistics, weight_bits)
    network.save(path)
    return network


@dataclass(frozen=True)
class Course:
    """Means per image of a simulation; ``sops_by`` as in :class:`Published`."""

    spikes: float
    net_spikes: float
    sops: float
    sops_by: tuple[float, ...]
    settled: int


def measure_course(network: SpikingNetwork, images: np.ndarray, timesteps: int = TIMESTEPS) -> Course:
    """Simulate in float32, near enough for statistics, until every image is silent."""
    recording = FloatNetwork(network).run(images, timesteps, record=True)
    count = len(images)
    sops = recording.sops.cumsum()
    positive, negative = recording.positive.sum(), recording.negative.sum()
    spiking = np.flatnonzero((recording.positive + recording.negative).sum(1))
    return Course(
        float(positive + negative) / count,
        float(positive - negative) / count,
        float(sops[-1]) / count,
        tuple(float(sops[min(step, timesteps) - 1] / max(sops[-1], 1)) for step in STEPS),
        int(spiking.max(initial=-1)) + 1,
    )


def distance(course: Course, published: Published) -> float:
    """0 for the same course; SOPs weigh most, since they are the work."""
    ratios = [
        4 * np.log(course.sops / published.sops),
        2 * np.log(course.spikes / published.spikes),
        np.log(max(course.net_spikes, 1.0) / published.net_spikes),
    ]
    curve = 4 * (np.array(course.sops_by) - published.sops_by)
    return float(np.square(ratios).sum() + np.square(curve).sum())


def calibrate(net: str, k: int, seconds: float, images: int, start: Statistics | None = None) -> Statistics:
    """Tune the statistics of a (net, k) for about so many seconds, by a (1+1) evolution strategy."""
    published = PUBLISHED[net, k]
    pictures = make_images(images, NETS[net].shape)
    random = np.random.default_rng(0)
    best = np.array(list(asdict(start or STATISTICS[net, k]).values()))
    step, scale = 1.0, np.array([0.12, 0.2, 0.2, 0.06, 0.02])

    def evaluate(values: np.ndarray) -> float:
        return distance(measure_course(build_network(net, k, Statistics(*values)), pictures), published)

    reached, started = evaluate(best), time.monotonic()
    while time.monotonic() - started < seconds:
        trial = np.round(best + step * scale * random.normal(size=len(best)), 4)
        trial[3] = abs(trial[3])
        value = evaluate(trial)
        if value < reached:
            best, reached, step = trial, value, min(step * 1.6, 2.0)
            print(f"  {reached:.5f} {Statistics(*best.tolist())}", file=sys.stderr, flush=True)
        else:
            step = max(step * 0.87, 0.05)
    return Statistics(*best.tolist())


def main() -> None:
    """Show how near the synthetic networks come to the published ones, or tune them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=main.__doc__)
    parser.add_argument("--nets", nargs="+", default=["cnn1", "cnn2"], choices=["cnn1", "cnn2"])
    parser.add_argument("--k", nargs="+", type=int, default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--calibrate", type=float, metavar="SECONDS", help="tune each network for so long")
    arguments = parser.parse_args()
    for net in arguments.nets:
        for k in arguments.k:
            statistics = STATISTICS[net, k]
            if arguments.calibrate:
                statistics = calibrate(net, k, arguments.calibrate, arguments.images)
            published = PUBLISHED[net, k]
            course = measure_course(build_network(net, k, statistics), make_images(arguments.images, NETS[net].shape))
            print(f'    ("{net}", {k}): {statistics},')
            for name in ("spikes", "net_spikes", "sops"):
                ours, theirs = getattr(course, name), getattr(published, name)
                print(f"#   {name}: {ours:,.0f}, published {theirs:,.0f} ({ours / theirs:.3f})")
            pairs = zip(STEPS, course.sops_by, published.sops_by, strict=True)
            print("#   SOPs done by step: " + ", ".join(f"{s}: {a:.3f}/{b:.3f}" for s, a, b in pairs))
            print(f"#   silent after {course.settled} steps", flush=True)


if __name__ == "__main__":
    main()
