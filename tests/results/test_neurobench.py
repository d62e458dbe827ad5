"""NeuroBench's metrics: counted connection by connection on random graphs, and by its own package on the same net."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from graphs import Graph, examples, graphs
from hypothesis import given
from oracle import Oracle, outgoing
from torch import nn

from negspike import InputError, SpikingNetwork, simulate
from negspike.results.neurobench import NeuroBench, neurobench
from negspike.spiking import dense
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout, Synapses, Window


def counted(network: SpikingNetwork, images: np.ndarray, timesteps: int) -> Counter[str]:
    """The rules word by word, one connection after the other."""
    oracle, found = Oracle(network), Counter[str](spikes=0, effective_acs=0, effective_macs=0, membrane_updates=0)
    results = [oracle.simulate(image, timesteps) for image in images]
    pixels = {pixel for result in results for pixel in result.emitted[0][INPUT]}
    for layer in network.layers:
        for synapses in layer.synapses:
            if synapses.weight is None:
                continue
            plain = replace(synapses, scale=np.ones_like(synapses.scale))
            ways = outgoing(plain, network.shapes[synapses.source], layer.shape)
            found["dense_operations"] += sum(map(len, ways)) * timesteps * len(images)
            spiking = synapses.source != INPUT or pixels <= {-(1 << 16), 0, 1 << 16}
            for emitted in (step for result in results for step in result.emitted):
                for number, spike in enumerate(emitted[synapses.source]):
                    if spike:
                        reached = sum(weight != 0 for _, weight in ways[number])
                        found["effective_acs" if spiking else "effective_macs"] += reached
    for result in results:
        found["spikes"] += np.sum(result.positive) + np.sum(result.negative)
        found["synaptic_operations"] += sum(result.sops)
        found["membrane_updates"] += len(result.residuals[0])
        for before, after in zip(result.residuals, result.residuals[1:], strict=False):
            found["membrane_updates"] += sum(a != b for a, b in zip(before, after, strict=True))
    return found


def check(found: NeuroBench, expected: Counter[str]) -> None:
    spikes = found.activations - found.zero_activations
    assert {name: getattr(found, name) for name in expected if name != "spikes"} | {"spikes": spikes} == expected


@examples(60)
@given(graph=graphs(nodes=5))
def test_random_graphs(graph: Graph) -> None:
    steps = min(graph.timesteps, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "LARGEST_CHUNK", 2)
        found = neurobench(graph.network, graph.images, steps, device="cpu", threads=1)
    check(found, counted(graph.network, graph.images, steps))
    assert found.activations == graph.network.neurons * steps * len(graph.images)


def pooled_network() -> SpikingNetwork:
    """Zero weights, negative spikes and net counts, groups, strides and a max pool."""
    random = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        values = random.integers(-3000, 3000, shape) * (random.random(shape) < 0.6)
        return values.astype(np.int16)

    def scale(outputs: int) -> np.ndarray:
        return np.full(outputs, 1 << 16, np.int64)

    same = Window((3, 3), (1, 1), ((1, 1), (1, 1)))
    strided = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    theta, base = random.integers(1 << 27, 1 << 28, 6), random.integers(-1 << 26, 1 << 26, 6)
    nodes = (
        Neurons("a", (6, 8, 8), (Synapses(INPUT, same, scale(6) >> 14, weight(6, 2, 3, 3)),), theta, base, -3, 4),
        MaxPool("pool", (6, 4, 4), "a", Window((2, 2), (2, 2))),
        Neurons("b", (6, 2, 2), (Synapses("pool", strided, scale(6), weight(6, 3, 3, 3), 2),), theta, base),
        Readout("out", (4, 1, 1), (Synapses("b", Window((2, 2)), scale(4), weight(4, 6, 2, 2)),), np.zeros(4, int)),
    )
    return SpikingNetwork((2, 8, 8), nodes, 13)


IMAGES = np.random.default_rng(4).normal(0, 1, (5, 2, 8, 8)) * (np.random.default_rng(5).random((5, 2, 8, 8)) < 0.7)


def test_by_hand_and_as_simulated() -> None:
    network = pooled_network()
    log = simulate(network, IMAGES)
    assert log.negative.sum(1).all(), "no negative spikes: nothing was tested"
    found = neurobench(network, IMAGES, log.timesteps)
    check(found, counted(network, IMAGES, log.timesteps))
    assert found.synaptic_operations == log.sops[:, -1].sum() > found.effective_acs > 0
    assert found.activations - found.zero_activations == log.spikes[:, -1].sum()
    # numbers of 64 bits: thresholds and bases, a bias, a scale an output; weights of 16 bits
    weights = 6 * 2 * 9 + 6 * 3 * 9 + 4 * 6 * 4
    assert found.footprint == 8 * (2 * 6 + 2 * 6 + 4 + 6 + 6 + 4) + 2 * weights
    assert found.weights == weights and found.zero_weights > 0
    assert found.reference_macs == network.macs == 6 * 3 * 9 * 4 + 4 * 6 * 4
    longer = neurobench(network, IMAGES, log.timesteps + 7)
    assert longer.effective_acs == found.effective_acs and longer.membrane_updates == found.membrane_updates
    assert found.results()["SynapticOperations"]["Effective_ACs"] == found.effective_acs / 5
    assert f"{found.effective_acs / 5:,.1f}" in str(found)


def test_images_of_spikes_are_accumulated() -> None:
    found = neurobench(pooled_network(), np.sign(IMAGES), 3)
    assert found.effective_macs == 0 < found.effective_acs
    check(found, counted(pooled_network(), np.sign(IMAGES), 3))


def test_refused() -> None:
    with OneLine(InputError, "timesteps is 0"):
        neurobench(pooled_network(), IMAGES, 0)
    with OneLine(InputError, "(5, 1, 8, 8)"):
        neurobench(pooled_network(), IMAGES[:, :1], 3)


# --- by the package -------------------------------------------------------------------------------------------------


class Pool(nn.Module):
    """Changes of the largest count of each window."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = self.largest = torch.zeros((), dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.counts, before = self.counts + x, self.largest
        self.largest = F.max_pool2d(self.counts, 2)
        return self.largest - before


def mirror(network: SpikingNetwork, spiking_neuron: Any) -> nn.Module:
    """The network in PyTorch and snnTorch, in float64, which holds each of its integers."""

    class Fire(spiking_neuron):  # type: ignore[misc]
        def __init__(self, node: Neurons) -> None:
            super().__init__()
            self.low, self.high = (float("inf") if bound is None else abs(bound) for bound in (node.low, node.high))
            self.theta, base = (torch.from_numpy(values).double()[:, None, None] for values in (node.theta, node.base))
            self.mem, self.n = (-base).expand(len(IMAGES), *node.shape), torch.zeros(node.shape, dtype=torch.float64)

        def forward(self, current: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            residual = self.mem + current
            up, down = (residual >= self.theta) & (self.n < self.high), (residual < 0) & (self.n > -self.low)
            spikes = up.double() - down.double()
            self.n, self.mem = self.n + spikes, residual - spikes * self.theta
            return spikes, self.mem

    class Mirror(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList()
            for node in network.nodes:
                if isinstance(node, MaxPool):
                    self.stages.append(Pool())
                    continue
                one = node.synapses[0]
                assert one.weight is not None
                padding, groups = one.window.padding[0][0], one.groups
                options: dict[str, Any] = {"stride": one.window.stride, "padding": padding, "groups": groups}
                layer = nn.Conv2d(
                    one.inputs, one.outputs, one.window.kernel, bias=False, dtype=torch.float64, **options
                )
                layer.weight.data = torch.from_numpy(one.weight).double()
                self.stages += [layer, *([Fire(node)] if isinstance(node, Neurons) else [])]

        def reset(self) -> None:
            pass

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scales = iter([4 * 2.0**16, 2.0**16, 2.0**16])
            for stage in self.stages:
                if isinstance(stage, nn.Conv2d):
                    x = stage(x) * next(scales)
                else:
                    x = stage(x)[0] if isinstance(stage, Fire) else stage(x)
            return x, x

    return Mirror()


@torch.no_grad()
def test_the_package_counts_the_same() -> None:
    from neurobench.metrics import static
    from neurobench.metrics import workload as package
    from neurobench.models import SNNTorchModel
    from snntorch import SpikingNeuron

    network = pooled_network()
    log = simulate(network, IMAGES)
    images = network.encode(IMAGES) / 2.0**16
    found = neurobench(network, images, log.timesteps)
    model = SNNTorchModel(mirror(network, SpikingNeuron))
    model.register_hooks()
    data = torch.zeros((len(images), log.timesteps, *network.input_shape), dtype=torch.float64)
    data[:, 0] = torch.from_numpy(images)
    logits = model(data)[..., 0, 0].sum(1)
    assert logits.argmax(1).tolist() == log.predictions.tolist(), "not the same network"
    batch = (data, log.predictions)
    operations, updates = package.SynapticOperations(), package.MembraneUpdates()
    operations(model, logits, batch)
    updates(model, logits, batch)
    assert operations.AC == found.effective_acs > 0 and operations.MAC == found.effective_macs > 0
    assert operations.total_synops == found.dense_operations
    assert sum(updates.neuron_membrane_updates.values()) == found.membrane_updates
    reported = found.results()
    assert operations.compute() == reported["SynapticOperations"] and updates.compute() == reported["MembraneUpdates"]
    assert package.ActivationSparsity()(model, logits, batch) == reported["ActivationSparsity"]
    assert static.ConnectionSparsity()(model) == round(reported["ConnectionSparsity"], 4)
    # its footprint of a module with the arrays of the network
    store = nn.Module()
    for layer in network.layers:
        for part in (layer, *layer.synapses):
            for item in fields(part):
                value = getattr(part, item.name)
                if isinstance(value, np.ndarray):
                    store.register_buffer(f"{layer.name}_{type(part).__name__}_{item.name}", torch.from_numpy(value))
    assert static.Footprint()(SNNTorchModel(store)) == found.footprint
