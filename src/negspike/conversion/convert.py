"""From any quantised PyTorch model to an integer spiking network."""

from __future__ import annotations

from typing import Any

from torch import nn

from negspike.arguments import within
from negspike.conversion.fold import Folder
from negspike.conversion.integers import IntegerBuilder
from negspike.conversion.narrow import narrow_thresholds
from negspike.conversion.simplify import simplify
from negspike.conversion.trace import trace
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import image_shape


def is_quantised(model: nn.Module, example: Any) -> bool:
    """Whether a model rounds activations, in a quantiser of any kind; arguments and errors as :func:`convert`'s."""
    return any(operation.kind == "quantize" for operation in simplify(trace(model, example)))


def convert(
    model: nn.Module, example: Any, *, weight_bits: int = 24, threshold_bits: int | None = None
) -> SpikingNetwork:
    """Convert a quantised model, trained or not, losslessly (docs/exactness.md).

    Populations have the module paths of their quantisers as names; a second use of one has ``_2`` added.

    Args:
        model: in evaluation mode, with a quantiser wherever it is not linear: a :class:`negspike.QuantReLU` or
            :class:`negspike.QuantIdentity`, as :func:`negspike.quantize` puts them, or one written in PyTorch's
            operations, as its quantisation-aware training and Brevitas do (docs/conversion.md). It is left as it is.
        example: (N, C, H, W) floats, (N, C, L) or (N, F); the network takes images of this size, of height 1 or of
            one pixel.
        weight_bits: width of the integer weights, 2 to 24. A model whose forward pass rounds its weights itself keeps
            them as they are if this is not less; integers times a scale, of at most 12 bits, become these integers;
            for others 24 keeps predictions.
        threshold_bits: width of thresholds, bases and biases, as :func:`negspike.narrow_thresholds` has it; None: as
            wide as it takes to decide as real numbers would.

    Raises:
        InputError: an operation cannot be converted; the line names the module and says what would be right.
    """
    bits = within("weight_bits", weight_bits, 2, 24)
    operations = simplify(trace(model, example))
    nodes = Folder().fold(operations)
    shape = image_shape(operations[0].shape)
    built = IntegerBuilder(nodes, shape[0], bits).build()
    network = SpikingNetwork(shape, built, bits, {"model": type(model).__name__})
    return network if threshold_bits is None else narrow_thresholds(network, threshold_bits)
