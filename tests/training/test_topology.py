"""Topology strings: counts that are published, shapes against PyTorch, errors that point at the token."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from hypothesis import given, settings
from hypothesis import strategies as st

from negspike.errors import InputError
from negspike.training.topology import Layer, Topology, parse_topology

CNN1 = "96C3-256C3-P2-384C3-P2-384C3-256C3-P2-1024-1024"
IMAGE = (3, 24, 24)


def test_cnn1_has_the_published_number_of_neurons() -> None:
    assert parse_topology(CNN1, IMAGE).neurons == 336_128


def test_macs_of_cnn1_by_hand() -> None:
    topology = parse_topology(CNN1, IMAGE)
    by_hand = [
        96 * 3 * 9 * 24 * 24,
        256 * 96 * 9 * 24 * 24,
        256 * 256 * 4 * 12 * 12,
        384 * 256 * 9 * 12 * 12,
        384 * 384 * 4 * 6 * 6,
        384 * 384 * 9 * 6 * 6,
        256 * 384 * 9 * 6 * 6,
        256 * 256 * 4 * 3 * 3,
        1024 * 256 * 9,
        1024 * 1024,
    ]
    assert [layer.macs for layer in topology.layers] == by_hand
    assert topology.macs == sum(by_hand[1:]) + 10 * 1024
    assert topology.reference_operations == 3 * topology.macs
    assert topology.features == 1024


def test_lenet_is_the_published_valid_net() -> None:
    topology = parse_topology("32C5-P2-64C5-P2-1024", (1, 28, 28), "valid")
    assert [layer.out_shape for layer in topology.layers] == [
        (32, 24, 24),
        (32, 12, 12),
        (64, 8, 8),
        (64, 4, 4),
        (1024, 1, 1),
    ]
    assert topology.layers[-1].weight_shape == (1024, 64, 4, 4)


def convolve(layer: Layer) -> tuple[int, ...]:
    """The shape that PyTorch computes from the layer's padding, stride and weights."""
    (top, bottom), (left, right) = layer.padding
    image = F.pad(torch.zeros(1, *layer.in_shape), (left, right, top, bottom))
    return tuple(F.conv2d(image, torch.zeros(layer.weight_shape), stride=layer.stride).shape[1:])


def windows(size: int, kernel: int, stride: int, before: int, after: int) -> list[int]:
    """Starts of all windows that lie in the padded axis."""
    return [start - before for start in range(0, before + size + after - kernel + 1, stride)]


TOKENS = st.one_of(
    st.builds("{}C{}".format, st.integers(1, 5), st.integers(1, 7)), st.sampled_from(["P2", "P3"]), st.just("7")
)


@settings(max_examples=150, deadline=None)
@given(
    tokens=st.lists(TOKENS, min_size=1, max_size=5),
    image=st.tuples(st.integers(1, 3), st.integers(1, 15), st.integers(1, 15)),
    padding=st.sampled_from(["same", "valid"]),
)
def test_shapes_are_those_of_a_convolution(tokens: list[str], image: tuple[int, int, int], padding: str) -> None:
    try:
        topology = parse_topology("-".join(tokens), image, padding)
    except InputError as error:
        assert "character" in str(error)
        return
    shape = image
    for token, layer in zip(tokens, topology.layers, strict=True):
        assert layer.in_shape == shape
        assert layer.token == token
        assert convolve(layer) == layer.out_shape
        assert layer.neurons == torch.zeros(layer.out_shape).numel()
        assert layer.macs == torch.zeros(layer.weight_shape).numel() * layer.out_shape[1] * layer.out_shape[2]
        for axis in range(2):
            size, kernel, (before, after) = layer.in_shape[axis + 1], layer.kernel[axis], layer.padding[axis]
            starts = windows(size, kernel, layer.stride, before, after)
            if layer.kind == "dense" or padding == "valid":
                assert (before, after) == (0, 0)
                assert starts[-1] + kernel <= size < starts[-1] + kernel + layer.stride
            else:
                assert len(starts) == -(-size // layer.stride)
                assert after - before in (0, 1)  # an odd number of zeros puts one more behind
                assert starts[-1] + kernel >= size  # no pixel is left out
        shape = layer.out_shape
    assert topology.features == torch.zeros(shape).numel()


def test_an_odd_image_keeps_its_last_row_when_padding_is_same_and_loses_it_when_valid() -> None:
    same, valid = (parse_topology("P2", (1, 7, 7), padding).layers[0] for padding in ("same", "valid"))
    assert (same.out_shape, same.padding) == ((1, 4, 4), ((0, 1), (0, 1)))
    assert (valid.out_shape, valid.padding) == ((1, 3, 3), ((0, 0), (0, 0)))


def test_an_even_kernel_puts_the_odd_zero_behind() -> None:
    assert parse_topology("2C4", (1, 6, 6)).layers[0].padding == ((1, 2), (1, 2))


@pytest.mark.parametrize(
    ("text", "token", "character"),
    [
        ("96C3-P1-10", "P1", 6),
        ("96C3--10", "", 6),
        ("", "", 1),
        ("96c3", "96c3", 1),
        ("96C3-0C3", "0C3", 6),
        ("96C0", "96C0", 1),
        ("96C3-10 ", "10 ", 6),
        ("96C3-P", "P", 6),
        ("96C3-M2", "M2", 6),
        ("96C3-2.5", "2.5", 6),
        ("٣C3", "٣C3", 1),
        ("9" * 5000 + "C3", "999", 1),
        ("96C3-" + "9" * 5000, "999", 6),
    ],
)
def test_a_wrong_token_is_pointed_at(text: str, token: str, character: int) -> None:
    with OneLine(InputError, f"'{token}", f"at character {character}", "96C3 (convolution"):
        parse_topology(text, IMAGE)


def test_a_line_break_stays_on_one_line() -> None:
    with OneLine(InputError, "at character 6"):
        parse_topology("96C3-10\n", IMAGE)


@pytest.mark.parametrize("token", ["16C3", "P2"])
def test_a_window_behind_a_dense_layer(token: str) -> None:
    with OneLine(InputError, f"'{token}' at character 10", "fully connected layer '100'"):
        parse_topology(f"16C3-100-{token}", IMAGE)


@pytest.mark.parametrize(
    ("text", "padding", "token"),
    [("P2-P2-P2-P2-P2-P2", "same", "'P2' at character 16"), ("8C5-8C5-8C5-8C5-8C5-8C5", "valid", "at character 21")],
)
def test_a_net_too_deep_for_its_image(text: str, padding: str, token: str) -> None:
    with OneLine(InputError, token, "too deep"):
        parse_topology(text, IMAGE, padding)


def test_a_same_window_may_be_larger_than_the_image() -> None:
    assert parse_topology("4C5", (1, 2, 2)).layers[0].out_shape == (4, 2, 2)


def outputs(topology: Topology) -> list[int]:
    return [layer.out_shape[0] for layer in topology.layers]


def test_width_multiplies_and_rounds_every_number_of_outputs() -> None:
    assert outputs(parse_topology(CNN1, IMAGE, width=0.25)) == [24, 64, 64, 96, 96, 96, 64, 64, 256, 256]
    assert outputs(parse_topology("10C3-11C3-13C3-1", IMAGE, width=0.25)) == [2, 3, 3, 1]
    assert outputs(parse_topology("3C3-P2-1", IMAGE, width=0.001)) == [1, 1, 1]
    assert outputs(parse_topology("3C3-P2-5", IMAGE, width=2)) == [6, 6, 10]


@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf")])
def test_a_width_that_is_none(width: float) -> None:
    with OneLine(InputError, "width", "above 0"):
        parse_topology("3C3", IMAGE, width=width)


def test_an_unknown_padding() -> None:
    with OneLine(InputError, "'full'", "'same' or 'valid'"):
        parse_topology("3C3", IMAGE, "full")


def test_a_number_is_a_topology_too() -> None:
    assert parse_topology(400, IMAGE).text == "400"  # type: ignore[arg-type]  # YAML reads it so
