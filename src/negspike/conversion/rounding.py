"""The rounding of weights as part of the quantised model, so that it computes with those of its spiking network."""

from __future__ import annotations

import torch
from torch import nn

from negspike.training import quantization


@torch.no_grad()
def round_weights(model: nn.Module, weight_bits: int = 24) -> nn.Module:
    """Round the weights of all convolutions and linear layers to integers times powers of two, in place.

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
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        per_channel = layer is not layers[-1] or isinstance(layer, nn.Conv2d)
        layer.weight.data = quantization.round_weights(layer.weight.data, weight_bits, per_channel).to(
            layer.weight.dtype
        )
    return model
