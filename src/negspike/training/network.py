"""The artificial network in PyTorch: convolution, batch norm, ReLU and, when quantised, Q_k (docs/exactness.md)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from negspike.training.quantization import quantize_activation, round_weights
from negspike.training.quantizers import QuantReLU
from negspike.training.topology import Layer, Topology

BATCHNORM_EPS = 1e-5
BATCHNORM_MOMENTUM = 0.1


class Block(nn.Module):
    """One hidden layer: convolution without bias -> batch norm -> ReLU -> Q_k, or a quantiser with a learned step.

    Args:
        layer: shapes of the layer; a fully connected one keeps its weight as (outputs, inputs, height, width) too.
        k: quantisation level, or None.
        levels: largest count, or None.
        weight_bits: width of the rounded weights; None leaves them as they are.
        initial: source of the initial weights.
    """

    def __init__(
        self, layer: Layer, *, k: int | None, levels: int | None, weight_bits: int | None, initial: torch.Generator
    ) -> None:
        super().__init__()
        self.layer, self.k, self.weight_bits = layer, k, weight_bits
        self.weight = nn.Parameter(_truncated_normal(layer.weight_shape, initial))
        self.norm = nn.BatchNorm2d(layer.out_shape[0], eps=BATCHNORM_EPS, momentum=BATCHNORM_MOMENTUM)
        nn.init.normal_(self.norm.weight, 1.0, 0.002, generator=initial)
        self.relu = nn.ReLU(inplace=True) if levels is None else QuantReLU(step=1.0, levels=levels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, outputs, out height, out width), float32."""
        weight = self.weight if self.weight_bits is None else round_weights(self.weight, self.weight_bits)
        if self.layer.kind == "dense":
            x = F.linear(x.flatten(1), weight.flatten(1))[..., None, None]
        else:
            (top, bottom), (left, right) = self.layer.padding
            if (top, left) != (bottom, right):
                x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
            x = F.conv2d(x, weight, stride=self.layer.stride, padding=(top, left))
        x = self.relu(self.norm(x))
        return x if self.k is None else quantize_activation(x, self.k)


class Network(nn.Module):
    """The ANN of a topology: full precision, or quantised with k = 0, 1, 2, ... or to so many ``levels``.

    Args:
        topology: layers and classifier.
        k: quantisation level: activations are multiples of 2^-k; None for others.
        weight_bits: width of the integer weights that the quantised forward pass computes with; None leaves them as
            they are. Unused in full precision.
        seed: seeds the initial weights, whose distributions are in docs/experiment.md.
        levels: instead of k, the largest count of each layer's quantiser, whose step is learned and 1 at first.
    """

    def __init__(
        self,
        topology: Topology,
        k: int | None = None,
        weight_bits: int | None = 16,
        seed: int = 0,
        *,
        levels: int | None = None,
    ) -> None:
        super().__init__()
        initial = torch.Generator().manual_seed(seed)
        self.topology, self.k = topology, k
        self.weight_bits = None if k is None and levels is None else weight_bits
        self.blocks = nn.ModuleList(
            Block(layer, k=k, levels=levels, weight_bits=self.weight_bits, initial=initial) for layer in topology.layers
        )
        self.classifier = nn.Parameter(_truncated_normal((topology.classes, topology.features), initial, std=0.1))

    def extra_repr(self) -> str:
        """Shown by ``print(network)``."""
        topology = self.topology
        return f"{topology.text}, {topology.padding}, {topology.width}, k={self.k}, weight_bits={self.weight_bits}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) standardised images to (N, classes) logits, float32."""
        x = images
        for block in self.blocks:
            x = block(x)
        weight: torch.Tensor = self.classifier
        if self.weight_bits is not None:
            weight = round_weights(weight, self.weight_bits, per_channel=False)
        return F.linear(x.flatten(1), weight)


def _truncated_normal(shape: tuple[int, ...], generator: torch.Generator, std: float = 0.02) -> torch.Tensor:
    return nn.init.trunc_normal_(torch.empty(shape), std=std, a=-2 * std, b=2 * std, generator=generator)


@torch.inference_mode()
def predict(network: nn.Module, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
    """Predicted class of each image, (N,) int64, the lowest index among equals; batch norm uses running statistics."""
    network.eval()
    batches = images.split(batch_size)  # type: ignore[no-untyped-call]
    return torch.cat([network(batch).argmax(1) for batch in batches])
