"""The artificial network against an independent NumPy formulation in float64, its start values and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import OneLine

from negspike.errors import InputError
from negspike.training.network import Block, Network, predict
from negspike.training.quantization import round_weights
from negspike.training.topology import parse_topology

NETS = [
    ("6C3-P2-8C3-P2-12", (1, 8, 8), "same"),
    ("6C4-P3-5C2-7-4", (2, 7, 9), "same"),  # odd sizes and even kernels: unequal padding
    ("6C3-P2-8C2-9", (1, 9, 10), "valid"),
    ("20-15", (1, 6, 6), "same"),
    ("P2-P2-3", (2, 7, 5), "same"),
]


def blocks(network: Network) -> list[Block]:
    return [block for block in network.blocks if isinstance(block, Block)]


def random_network(
    topology: str, shape: tuple[int, int, int], padding: str, k: int | None, bits: int | None = 16
) -> Network:
    """A network in evaluation mode whose batch norm has statistics of the size that training leaves."""
    network = Network(parse_topology(topology, shape, padding), k, bits, seed=3)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for block in blocks(network):
            block.weight.normal_(0, 0.4, generator=random)
            block.norm.weight.uniform_(-0.5, 1.5, generator=random)
            block.norm.bias.normal_(0.2, 0.5, generator=random)
            assert block.norm.running_mean is not None and block.norm.running_var is not None
            block.norm.running_mean.normal_(0, 0.5, generator=random)
            block.norm.running_var.uniform_(0.3, 2.0, generator=random)
        network.classifier.normal_(generator=random)
    return network.eval()


def rounded(weight: np.ndarray, bits: int) -> np.ndarray:
    """Integers of ``bits`` bits times the smallest power of two that fits, for one channel or one matrix."""
    largest, step = np.abs(weight).max(), 1.0
    if largest == 0:
        return weight
    limit = 2 ** (bits - 1) - 1
    while np.rint(largest / step) > limit:
        step *= 2
    while np.rint(largest / (step / 2)) <= limit:
        step /= 2
    return np.asarray(np.rint(weight / step) * step)


def forward_float64(network: Network, images: np.ndarray) -> np.ndarray:
    """Convolution, batch norm, ReLU and Q_k as their definitions say, window by window."""
    x = images.astype(np.float64)
    for block in blocks(network):
        layer, norm = block.layer, block.norm
        weight = block.weight.detach().double().numpy()
        if network.k is not None and network.weight_bits is not None:
            weight = np.stack([rounded(channel, network.weight_bits) for channel in weight])
        x = np.pad(x, ((0, 0), (0, 0), *layer.padding))
        (height, columns), out = layer.kernel, np.empty((len(x), *layer.out_shape))
        for row in range(layer.out_shape[1]):
            for column in range(layer.out_shape[2]):
                top, left = row * layer.stride, column * layer.stride
                window = x[:, :, top : top + height, left : left + columns]
                out[:, :, row, column] = np.tensordot(window, weight, ((1, 2, 3), (1, 2, 3)))
        gamma, beta, mean, var = (
            value.detach().double().numpy()[:, None, None]
            for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            if value is not None
        )
        x = np.maximum(gamma * (out - mean) / np.sqrt(var + 1e-5) + beta, 0)
        if network.k is not None:
            x = np.floor(2**network.k * x + 0.5) / 2**network.k
    classifier = network.classifier.detach().double().numpy()
    if network.k is not None and network.weight_bits is not None:
        classifier = rounded(classifier, network.weight_bits)
    return np.asarray(x.reshape(len(x), -1) @ classifier.T)


@pytest.mark.parametrize("k", [None, 0, 1, 2])
@pytest.mark.parametrize(("topology", "shape", "padding"), NETS)
def test_forward_against_float64(topology: str, shape: tuple[int, int, int], padding: str, k: int | None) -> None:
    network = random_network(topology, shape, padding, k)
    images = torch.randn(12, *shape, generator=torch.Generator().manual_seed(5))
    expected = forward_float64(network, images.numpy())
    found = network(images).detach().numpy()
    assert found.shape == (12, 10)
    # a value within float32's error of a step of Q_k may fall on its other side: an image in twelve at the very most
    close = np.isclose(found, expected, rtol=1e-4, atol=1e-4).all(1)
    assert close.sum() >= (12 if k is None else 11)


@pytest.mark.parametrize("bits", [2, 4, 24])
def test_weight_bits_against_float64(bits: int) -> None:
    network = random_network("6C3-P2-12", (1, 8, 8), "same", 1, bits)
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(6))
    close = np.isclose(network(images).detach().numpy(), forward_float64(network, images.numpy()), atol=1e-4).all(1)
    assert close.sum() >= 11


def test_hidden_activations_are_multiples_of_a_level() -> None:
    network = random_network("6C3-P2-12", (1, 8, 8), "same", 2)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    for block in network.blocks:
        x = block(x)
        assert torch.equal(x * 4, (x * 4).round())
        assert x.min() >= 0 and x.max() > 0


def test_full_precision_rounds_nothing() -> None:
    network = random_network("6C3-P2-12", (1, 8, 8), "same", None)
    assert network.weight_bits is None
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    activation = network.blocks[0](x)
    assert not torch.equal(activation * 256, (activation * 256).round())
    other = Network(network.topology, None, 4)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.eval()(x), network(x))


def test_weights_are_not_rounded_without_weight_bits() -> None:
    network = random_network("6C3-P2-12", (1, 8, 8), "same", 1, None)
    close = np.isclose(
        network(torch.ones(1, 1, 8, 8)).detach().numpy(), forward_float64(network, np.ones((1, 1, 8, 8))), atol=1e-4
    )
    assert close.all()


def test_weights_already_rounded_compute_the_same() -> None:
    network = random_network("6C3-P2-12", (1, 8, 8), "same", 1, 8)
    x = torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(8))
    before = network(x)
    with torch.no_grad():
        for block in blocks(network):
            block.weight.copy_(round_weights(block.weight, 8))
        network.classifier.copy_(round_weights(network.classifier, 8, per_channel=False))
    assert torch.equal(network(x), before)


def test_a_width_that_does_not_exist() -> None:
    with OneLine(InputError, "weight_bits is 25"):
        Network(parse_topology("10", (1, 2, 2)), 1, 25)(torch.zeros(2, 1, 2, 2))


def test_start_values() -> None:
    network = Network(parse_topology("96C3-P2-64C3-256", (3, 12, 12)), 1, seed=0)
    weights = [*((block.weight, 0.02) for block in blocks(network)), (network.classifier, 0.1)]
    for weight, deviation in weights:
        assert weight.abs().max() <= 2 * deviation
        # the deviation of a normal distribution cut off at two of its own
        assert weight.std().item() == pytest.approx(deviation * 0.8796, rel=0.05)
        assert abs(weight.mean().item()) < 0.1 * deviation
    gammas = torch.cat([block.norm.weight for block in blocks(network)])
    assert gammas.mean().item() == pytest.approx(1.0, abs=5e-4)
    assert gammas.std().item() == pytest.approx(0.002, rel=0.15)
    for block in blocks(network):
        assert not block.norm.bias.any()
        assert (block.norm.eps, block.norm.momentum) == (1e-5, 0.1)
    assert not any("bias" in name for name, _ in network.named_parameters() if "norm" not in name)


def test_the_same_seed_makes_the_same_network_whatever_was_drawn_before() -> None:
    topology = parse_topology("6C3-P2-12", (1, 8, 8))
    states = []
    for seed, disturbance in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(disturbance)
        states.append(Network(topology, 1, seed=seed).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["classifier"], states[2]["classifier"])


def test_every_precision_starts_from_the_same_weights() -> None:
    topology = parse_topology("6C3-P2-12", (1, 8, 8))
    fp32, k0 = (Network(topology, k, seed=1).state_dict() for k in (None, 0))
    assert all(torch.equal(fp32[name], k0[name]) for name in fp32)


@pytest.mark.parametrize("k", [None, 0, 2])
def test_the_gradient_reaches_every_weight(k: int | None) -> None:
    network = random_network("6C3-P2-8C3-12", (1, 8, 8), "same", k, 4).train()
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    torch.nn.functional.cross_entropy(network(images), torch.arange(16) % 10).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.count_nonzero() > 0.3 * parameter.numel(), name


def test_relu_stops_the_gradient_that_q_k_lets_through() -> None:
    network = random_network("6", (1, 2, 2), "same", 0)
    block = blocks(network)[0]
    with torch.no_grad():
        block.norm.bias.copy_(torch.tensor([-100.0, 100.0] * 3))
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    block(x).sum().backward()
    assert block.weight.grad is not None
    assert not block.weight.grad[::2].any()
    assert block.weight.grad[1::2].any()


def test_predictions_take_the_lowest_index_of_a_tie_and_every_image_once() -> None:
    network = random_network("6C3-P2-12", (1, 8, 8), "same", 1)
    images = torch.randn(23, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    network.train()
    expected = network.eval()(images).argmax(1)
    for batch_size in (1, 7, 23, 500):
        network.train()
        predicted = predict(network, images, batch_size)
        assert predicted.dtype == torch.int64
        assert torch.equal(predicted, expected)
    with torch.no_grad():
        network.classifier.zero_()
    assert not predict(network, images).any()
