"""How large a net is, a topology or a model."""

from __future__ import annotations

import json
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn

from negspike.config import Definition
from negspike.stages.run import Run
from negspike.training.quantizers import QuantIdentity, QuantReLU


class Size(NamedTuple):
    """Trained numbers, neurons and populations."""

    parameters: int
    neurons: int
    populations: int


def net_size(definition: Definition) -> Size:
    """Of a topology by its shapes; a model is made and shown an image.

    Raises:
        InputError: the model cannot be made or quantised.
    """
    if definition.model is not None:
        return _model_size(json.dumps(definition.science()))
    topology = definition.topology
    weights = sum(prod(layer.weight_shape) + 2 * layer.out_shape[0] for layer in topology.layers)
    parameters = weights + topology.classes * topology.features
    return Size(parameters, topology.neurons, len(topology.layers))


@cache
def _model_size(science: str) -> Size:
    run = Run("", json.loads(science), 0, "levels1", None)
    model, neurons = run.network().eval(), list[int]()

    def count(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        neurons.append(output[0].numel())

    for module in model.modules():
        if isinstance(module, QuantReLU | QuantIdentity):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, *run.spec.input_shape))
    return Size(sum(parameter.numel() for parameter in model.parameters()), sum(neurons), len(neurons))
