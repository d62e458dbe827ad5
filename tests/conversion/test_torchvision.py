"""torchvision's models: quantised, converted, simulated until silent. Every neuron, and the logits of float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneLine
from torch import nn

import negspike
from negspike.errors import InputError

models: Any = pytest.importorskip("torchvision.models", reason="torchvision is not installed for this PyTorch")

# name: smallest side that goes through quickly, what the model is made with
FAMILIES: dict[str, tuple[int, dict[str, Any]]] = {
    "resnet18": (32, {}),
    "resnext50_32x4d": (32, {}),
    "vgg11_bn": (32, {}),
    "alexnet": (64, {}),
    "squeezenet1_1": (32, {}),
    "densenet121": (32, {}),
    "mobilenet_v2": (32, {}),
    "mnasnet0_5": (32, {}),
    "shufflenet_v2_x0_5": (32, {}),
    "regnet_x_400mf": (32, {}),
    "googlenet": (32, {"aux_logits": False, "init_weights": False}),
}
QUICK = {"resnet18", "squeezenet1_1"}
REFUSED = {
    "efficientnet_b0": "features.0.2: SiLU",
    "mobilenet_v3_small": "features.0.2: Hardswish",
    "regnet_y_400mf": "Sigmoid",
    "convnext_tiny": "LayerNorm",
    "swin_t": "LayerNorm",
}


def made(name: str, size: int, options: dict[str, Any]) -> nn.Module:
    """A random model whose batch norms have seen random images."""
    torch.manual_seed(0)
    model: nn.Module = getattr(models, name)(weights=None, num_classes=10, **options).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all
    with torch.no_grad():
        model(torch.randn(16, 3, size, size))
    return model.eval()


@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.slow] * (one not in QUICK)) for one in FAMILIES])
def test_lossless(name: str) -> None:
    size, options = FAMILIES[name]
    quantised = negspike.quantize(made(name, size, options), torch.randn(8, 3, size, size), levels=3)
    network = negspike.convert(quantised, torch.zeros(1, 3, size, size))
    assert network.latency_bound is not None

    x = torch.randn(8, 3, size, size)
    x = (x * 65536).round() / 65536
    activations = network.activations(x.numpy())
    logits = activations[network.readout.name] * network.readout.unit
    log = negspike.simulate(network, x[:2], engine="dense")
    assert (log.silent >= 0).all() and log.silent.max() <= network.latency_bound
    for population in network.populations:
        np.testing.assert_array_equal(log.counts[population.name], activations[population.name][:2], population.name)
    np.testing.assert_array_equal(log.logits, logits[:2])

    # Its weights are those of the network, and so is it in float64; float32 may round a neuron the other way.
    with torch.no_grad():
        single, exact = quantised(x).numpy(), copy.deepcopy(quantised).double()(x.double()).numpy()
    assert np.abs(exact - logits).max() < 1e-6 * np.abs(exact).max()
    assert (single.argmax(1) == logits.argmax(1)).sum() >= 7


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_of_the_module(name: str) -> None:
    model = getattr(models, name)(weights=None, num_classes=10).eval()
    with OneLine(InputError, REFUSED[name]):
        negspike.quantize(model, torch.zeros(1, 3, 64, 64))
    with OneLine(InputError, ": "):
        negspike.convert(model, torch.zeros(1, 3, 64, 64))
