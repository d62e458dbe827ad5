"""Networks to measure, and images for them: chains like the published ones, and graphs made from PyTorch models.

The chains' spike counts over time are like those of the published, trained networks.

Training a full-width net takes days of a GPU, and an event-driven engine's time depends on how many spikes there are
and when. So weights are drawn at random, batch norm is calibrated layer by layer on images, and a few numbers for each
(net, k) were tuned, by an evolution strategy, until synaptic operations, spikes and their course over the time steps
came close to the published ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from negspike import SpikingNetwork, convert, from_batchnorm, quantize
from negspike.fixed_point import IMAGE_FRACTION_BITS
from negspike.training.models import make_model
from negspike.training.quantization import round_weights
from negspike.training.topology import Shape, parse_topology
from negspike.zoo import torchvision_models

NETS: dict[str, tuple[str, Shape]] = {
    "cnn1": ("96C3-256C3-P2-384C3-P2-384C3-256C3-P2-1024-1024", (3, 24, 24)),
    "cnn2": ("128C3-256C3-P2-512C3-P2-1024C3-512C3-P2-1024-512", (3, 24, 24)),
    "tiny": ("6C3-8C3-P2-10C3-P2-20", (3, 8, 8)),
}
MODELS = ("resnet18", "vgg16_bn", "resnet20", "mobilenet_v2")
CALIBRATION_IMAGES = 24
# Of every batch norm output: with it a ResNet-18 does as many operations a multiply-accumulate as a trained one.
MODEL_SHIFT = -0.2
EPS = 1e-5
LARGEST_GAIN = 6.0  # in the exponential distribution that gains are drawn from
# Of natural images: amplitudes fall as 1 / frequency, and the three colours rise and fall together.
SPECTRAL_SLOPE = 1.0
COLOUR_CORRELATION = 0.9


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

    shift: float = 0.0
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
}


def make_network(net: str, k: int, weight_bits: int = 16, seed: int = 0) -> SpikingNetwork:
    """Draw weights, calibrate batch norm on the quantised activations that pass through, convert.

    The same integers every time; another machine's PyTorch may calibrate to other last bits.
    """
    statistics = STATISTICS.get((net, k), Statistics())
    text, shape = NETS[net]
    topology = parse_topology(text, shape)
    x = torch.from_numpy(make_images(CALIBRATION_IMAGES, shape, seed + 1)).contiguous(memory_format=torch.channels_last)
    depth, layers = len(topology.layers), list[dict[str, Any]]()
    for number, geometry in enumerate(topology.layers):
        random = torch.Generator().manual_seed(1000 * seed + number)
        weight = torch.randn(geometry.weight_shape, generator=random)
        if number > 0:
            weight += statistics.common
        weight = round_weights(weight / int(np.prod(geometry.weight_shape[1:])) ** 0.5, weight_bits)
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
        layers.append({"weight": weight, "gamma": gamma, "beta": beta, "mean": mean, "var": var, "eps": EPS})
    random = torch.Generator().manual_seed(1000 * seed + depth)
    classifier = torch.randn((topology.features, topology.classes), generator=random).numpy()
    network = from_batchnorm(text, shape, k, layers, classifier, weight_bits=weight_bits)
    return replace(network, origin={"net": net, "k": k, "synthetic": asdict(statistics), "seed": seed})


def _resnet20() -> nn.Module:
    """That of K. He et al. (CVPR 2016) for CIFAR-10, with 1x1 convolutions where the size halves."""
    resnet, blocks = torchvision_models().resnet, list[nn.Module]()
    widths = (16, 16, 16, 32, 32, 32, 64, 64, 64)
    for inputs, outputs in pairwise((16, *widths)):
        stride = outputs // inputs
        blocks.append(block := resnet.BasicBlock(inputs, outputs, stride))
        if stride > 1:
            block.downsample = nn.Sequential(resnet.conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def make_float_model(name: str, size: int) -> nn.Module:
    """A float model by its dotted path, or one of :data:`MODELS` as it is used for CIFAR-10; weights are random.

    Small images get a ``resnet`` without the stem's strides and a ``vgg`` with a single linear layer.

    Raises:
        InputError: there is nothing of that name.
    """
    if name == "resnet20":
        return _resnet20()
    path = name if "." in name else f"torchvision.models.{name}"
    kind, model = path.rpartition(".")[2], cast(Any, make_model(path, {"num_classes": 10}))
    if size < 64 and kind.startswith("resnet"):
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    elif size < 64 and kind.startswith("vgg"):
        model.avgpool, model.classifier = nn.Identity(), nn.Linear(512 * (size // 32) ** 2, 10)
    elif size < 64 and kind == "mobilenet_v2":
        model.features[0][0].stride = model.features[2].conv[1][0].stride = (1, 1)
    return cast(nn.Module, model)


def make_graph(name: str, levels: int, size: int, weight_bits: int = 16) -> SpikingNetwork:
    """A model with random weights, batch norm statistics and steps of its activations from images; converted."""
    torch.manual_seed(0)
    model = make_float_model(name, size)
    images = torch.from_numpy(make_images(CALIBRATION_IMAGES, (3, size, size), 1))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
            nn.init.constant_(module.bias, MODEL_SHIFT)
    with torch.no_grad():
        model.train()(images)
    network = convert(quantize(model.eval(), images, levels=levels), images[:1], weight_bits=weight_bits)
    return replace(network, origin={"net": name, "levels": levels})


def make_images(count: int, shape: Shape, seed: int = 0) -> np.ndarray:
    """Seeded 1/f noise, which resembles natural images in what an engine notices, standardised as test images are.

    The first images are the same however many are asked for.

    Returns:
        (count, channels, height, width) float32, rounded to 16 fractional bits.
    """
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.zeros_like(frequency)
    np.divide(1.0, frequency**SPECTRAL_SLOPE, out=amplitude, where=frequency > 0)
    images = np.empty((count, *shape))
    for number in range(count):
        random = np.random.default_rng([seed, number])
        common = random.normal(size=(1, height, width))
        own = random.normal(size=(channels, height, width))
        noise = np.sqrt(COLOUR_CORRELATION) * common + np.sqrt(1 - COLOUR_CORRELATION) * own
        images[number] = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, (height, width))
    images -= images.mean((1, 2, 3), keepdims=True)
    deviation = images.std((1, 2, 3), keepdims=True)
    images /= np.where(deviation > 0, deviation, 1.0)
    scale = 2.0**IMAGE_FRACTION_BITS
    rounded: np.ndarray = (np.rint(images * scale) / scale).astype(np.float32)
    return rounded
