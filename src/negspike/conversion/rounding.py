"""Weights as integers: rounded as part of the quantised model, or those that they were made of elsewhere."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from negspike.training import quantization

# Weights that others have quantised are float32 products of a scale and integers of at most so many bits.
MOST_BITS, PRECISION = 12, 2.0**-22
# The smallest weight is at most so many times the scale; so many weights are looked at first.
MOST_TIMES, FIRST_WEIGHTS = 127, 16


@torch.no_grad()
def round_weights(model: nn.Module, weight_bits: int = 24) -> nn.Module:
    """Round weights of convolutions and linear layers to integers times powers of two, in place.

    Layers with a forward of their own, as those of quantisation-aware training that round their weights themselves, and
    parametrised weights, which are made anew whenever they are read, are left as they are.

    :func:`negspike.quantize` does it; after training on, do it again and look at the accuracy of what is converted:
    in a deep quantised model, weights that change in their last bit change predictions (docs/conversion.md).

    Args:
        model: any; the weights of its last linear layer have one power of two, others one an output channel.
        weight_bits: as :func:`negspike.convert` gets it, 2 to 24.

    Returns:
        The same model.

    Raises:
        InputError: ``weight_bits`` is out of range.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)]
    for layer in layers:
        own = type(layer).forward not in (nn.Conv1d.forward, nn.Conv2d.forward, nn.Linear.forward)
        if own or parametrize.is_parametrized(layer, "weight"):
            continue
        per_channel = layer is not layers[-1] or not isinstance(layer, nn.Linear)
        layer.weight.data = quantization.round_weights(layer.weight.data, weight_bits, per_channel).to(
            layer.weight.dtype
        )
    return model


def common_steps(weight: np.ndarray, bits: int) -> np.ndarray:
    """Of each output channel, the largest number of which its weights are whole multiples, as far as float32 can tell.

    Args:
        weight: (O, ...) float64.
        bits: width of the multiples, sign included; more than 12 are not tried.

    Returns:
        (O,) float64, 0 where there is none.
    """
    steps, most = np.zeros(len(weight)), 1 << min(bits, MOST_BITS) - 1
    for channel, row in enumerate(np.abs(weight.reshape(len(weight), prod(weight.shape[1:])))):
        sizes = row[row > 0]
        if not len(sizes) or sizes.max() >= most * sizes.min():
            continue
        tried = sizes.min() / np.arange(1, MOST_TIMES + 1)
        for step in tried[_divides(tried, sizes[:FIRST_WEIGHTS], most)]:
            if _divides(np.array([step]), sizes, most)[0]:
                steps[channel] = sizes.max() / np.rint(sizes.max() / step)
                break
    return steps


def _divides(steps: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
    """(S,) whether all of the (N,) sizes are whole multiples, below ``most``, of each of the (S,) steps."""
    multiples = sizes / steps[:, None]
    close = np.abs(multiples - np.rint(multiples)) <= PRECISION * multiples
    fits: np.ndarray = (close & (multiples < most - 0.5)).all(1)
    return fits
