"""Narrow thresholds: they fit, the result is lossless for its own ANN, and near the network before."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneLine
from graphs import ENGINES, MOST_STEPS, Graph, chain, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from test_convert import Dense, Mixed, Residual
from torch import nn

import negspike
from negspike.conversion.narrow import narrow_thresholds
from negspike.errors import InputError
from negspike.results.differences import differences
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Sum, Synapses

BITS = st.sampled_from([4, 8, 12, 16, 20, 24, 32, 48])


def narrow(network: negspike.SpikingNetwork, bits: int) -> negspike.SpikingNetwork:
    """To so many bits, or the least that the refusal names; one less than that is refused, too."""
    try:
        return narrow_thresholds(network, bits)
    except InputError as error:
        found = re.fullmatch(r"(\S+): .* must be at least (\d+) for this network", str(error))
        assert found is not None and found[1] in network.shapes
        least = int(found[2])
        assert least > bits
        with pytest.raises(InputError, match=f"must be at least {least} for"):
            narrow_thresholds(network, least - 1)
        return narrow_thresholds(network, least)


@examples(150)
@given(graphs(), BITS, st.sampled_from(ENGINES[1:]))
def test_it_fits_and_is_lossless(graph: Graph, bits: int, engine: str) -> None:
    made = narrow(graph.network, bits)
    for node in made.nodes:
        arrays = [node.theta, node.base] if isinstance(node, Neurons) else []
        arrays += [node.bias] if isinstance(node, Readout) else []
        for array in arrays:
            assert np.abs(array).max() < 1 << max(bits, made.threshold_bits) - 1
    assert made.threshold_bits <= int(made.origin.get("threshold_bits", bits))
    log = negspike.simulate(made, graph.images, timesteps=MOST_STEPS, engine=engine)
    expected = made.activations(graph.images)
    for name, counts in log.counts.items():
        np.testing.assert_array_equal(counts[log.silent >= 0], expected[name][log.silent >= 0], name)


@examples(30)
@given(graphs(), st.integers(1, 12))
def test_common_factors_are_divided_out_and_nothing_rounds(graph: Graph, shift: int) -> None:
    network = graph.network
    bits = max(2, network.threshold_bits)

    def multiplied(node: Node) -> Node:
        if isinstance(node, MaxPool | Sum):
            return node
        synapses = tuple(replace(one, scale=one.scale << shift) for one in node.synapses)
        if isinstance(node, Neurons):
            return replace(node, synapses=synapses, theta=node.theta << shift, base=node.base << shift)
        return replace(node, synapses=synapses, bias=node.bias << shift, unit=node.unit / 2**shift)

    wide = replace(network, nodes=tuple(multiplied(node) for node in network.nodes))
    if max(int(abs(one.scale).max()) for node in network.layers for one in node.synapses) >> 50:
        return
    made = narrow_thresholds(wide, bits)
    assert made.threshold_bits <= bits and made.image_fraction_bits == 16
    expected, found = network.activations(graph.images), made.activations(graph.images)
    for name in [one.name for one in network.populations]:
        np.testing.assert_array_equal(found[name], expected[name], name)
    readout = network.readout.name
    np.testing.assert_array_equal(found[readout] * made.readout.unit, expected[readout] * network.readout.unit)


def arrived(node: Neurons, values: dict[str, np.ndarray]) -> Any:
    """Per neuron, in Python integers: the weighted sum, and scale times the sum of absolute inputs."""
    total = np.zeros(node.shape, object)
    inexact = np.zeros(node.shape, object)
    for one in node.synapses:
        source = values[one.source].astype(object)
        source = source if one.channels is None else source[one.channels]
        padded = np.pad(source, [(0, 0), *one.window.padding])[None]
        seen = np.stack([tap[0] for _, tap in one.window.taps(padded)])  # (taps, channels, height, width)
        targets = range(node.shape[0]) if one.targets is None else one.targets.tolist()
        for row, target in enumerate(targets):
            scale = int(one.scale[row])
            if one.weight is None:
                total[target] += scale * seen[:, row].sum(0)
                inexact[target] += abs(seen[:, row].sum(0))
                continue
            inputs = one.weight.shape[1]
            first = row // (one.outputs // one.groups) * inputs
            weight = np.broadcast_to(one.weight[row], (inputs, *one.window.kernel)).reshape(inputs, -1).astype(object)
            part = seen[:, first : first + inputs].transpose(1, 0, 2, 3)
            total[target] += scale * (weight[:, :, None, None] * part).sum((0, 1))
            inexact[target] += abs(scale) * abs(part).sum((0, 1))
    return total, inexact


@examples(80)
@given(graphs(images=1, nodes=3), BITS)
def test_a_count_differs_only_within_the_error_bound(graph: Graph, bits: int) -> None:
    """docs/conversion.md: for the same counts before it, |difference| <= (n + 1 + sum of scale |inputs|) / 2 theta."""
    whole, made = graph.network, narrow(graph.network, bits)
    if made.image_fraction_bits < 16:
        # the bound is for images that the narrow network represents
        scale = 2.0**made.image_fraction_bits
        graph.images = np.rint(graph.images * scale) / scale
    image = {name: network.encode(graph.images)[0] for name, network in (("whole", whole), ("made", made))}
    counts = {name: values[0] for name, values in made.activations(graph.images).items()}
    for before, after in zip(whole.populations, made.populations, strict=True):
        if any(isinstance(whole.node(one.source), Sum | MaxPool) for one in before.synapses if one.source != INPUT):
            continue
        one, _ = arrived(before, counts | {INPUT: image["whole"]})
        other, inexact = arrived(after, counts | {INPUT: image["made"]})
        theta, base = (array.astype(object)[:, None, None] for array in (before.theta, before.base))
        for place in np.ndindex(*before.shape):
            channel = place[0]
            exact = Fraction(int(one[place]) - int(before.base[channel]), int(before.theta[channel]))
            found = Fraction(int(other[place]) - int(after.base[channel]), int(after.theta[channel]))
            if not one[place] and not other[place]:
                continue  # a channel that nothing arrives at may be represented as a constant
            room = (abs(exact) + 1 + int(inexact[place])) / (2 * int(after.theta[channel]))
            assert abs(exact - found) <= room, (before.name, place)
        assert theta.shape == base.shape == (before.shape[0], 1, 1)


@pytest.mark.parametrize("make", [Residual, Dense, Mixed])
def test_streams_and_sums(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, images = make().train(), torch.randn(100, 3, 8, 6)
    for _ in range(3):
        model(images)
    whole = negspike.convert(model.eval(), images[:1])
    shares = []
    for bits in (32, 24, 16):
        made = negspike.convert(model, images[:1], threshold_bits=bits)
        assert made.threshold_bits <= bits < whole.threshold_bits
        assert negspike.verify(made, images[:10]).lossless
        found = differences(whole, made, images.numpy())
        assert found.activations == 100 * whole.neurons
        shares.append(found.differing_activations / found.activations)
    assert shares[0] < 0.002 and shares[1] < 0.02 and shares[2] < 0.06
    for node in made.nodes:
        for one in node.synapses if isinstance(node, Sum) else ():
            if isinstance(made.shapes.get(one.source) and _node(made, one.source), Sum):
                before = next(same for same in _synapses(whole, node.name) if same.source == one.source)
                np.testing.assert_array_equal(one.scale, before.scale)  # a relay takes no factor


def _node(network: negspike.SpikingNetwork, name: str) -> Node | None:
    return None if name == INPUT else network.node(name)


def _synapses(network: negspike.SpikingNetwork, name: str) -> tuple[Synapses, ...]:
    node = network.node(name)
    assert not isinstance(node, MaxPool)
    return node.synapses


def test_weights_keep_their_rounding_where_the_divisor_allows_it() -> None:
    """Hidden weights of 16 bits under thresholds of 16 more: 32 bits cost no bit of them."""
    weights = np.random.default_rng(0).integers(-(2**15) + 1, 2**15, (2, 6, 6))
    network = chain("6-6", (6, 1, 1), list(weights), [2**37, 3 << 34], [12345, -(2**36)], np.ones((2, 6)))
    made = narrow_thresholds(network, 32)
    before, after = (one.node("layer1").synapses[0] for one in (network, made))  # type: ignore[union-attr]
    np.testing.assert_array_equal(before.weight, after.weight)
    assert made.image_fraction_bits < 16
    assert narrow_thresholds(network, 64) is network


def test_saved_exported_and_read_again(tmp_path: Path) -> None:
    network = chain("3", (2, 1, 1), [np.arange(-3, 3)], [2**26], [-(2**25)], np.ones((2, 3)))
    made = narrow_thresholds(network, 12)
    made.save(tmp_path / "net.npz")
    again = negspike.load(tmp_path / "net.npz")
    images = np.random.default_rng(0).normal(0, 3000, (20, 2, 1, 1))
    assert again.image_fraction_bits == made.image_fraction_bits < 16 and again.origin["threshold_bits"] == 12
    np.testing.assert_array_equal(again.encode(images), np.rint(images * 2.0**made.image_fraction_bits))
    found, expected = again.activations(images), made.activations(images)
    assert all((found[name] == expected[name]).all() for name in expected)
    assert found["layer0"].max() > 0


@pytest.mark.parametrize(
    ("bits", "words"),
    [(1, "threshold_bits is 1: it must be from 2 to 64"), (65, "from 2 to 64"), ("x", "threshold_bits is 'x'")],
)
def test_wrong_widths(bits: Any, words: str) -> None:
    network = chain("1", (1, 1, 1), [[1]], [1 << 16], [0], [[0], [1]])
    with OneLine(InputError, words):
        narrow_thresholds(network, bits)


def test_a_base_of_many_thresholds_and_a_constant() -> None:
    network = chain("2", (1, 1, 1), [[1, 0]], [[10, 1 << 20]], [[-70_000, -(5 << 20)]], [[1, 1], [0, 1]])
    words = "threshold and base of channel 0 do not fit 8 bits; threshold_bits must be at least 14 for this network"
    with OneLine(InputError, "layer0: ", words):
        narrow_thresholds(network, 8)
    made = narrow_thresholds(network, 14)
    assert made.node("layer0").theta.tolist() == [1, 1]  # type: ignore[union-attr]
    assert made.activations(np.zeros((1, 1, 1, 1)))["layer0"].ravel()[1] == 5
