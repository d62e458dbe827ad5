"""The event-driven engine: the same integers as the reference, whatever is tiled, cut into blocks or widened."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from negspike.spiking.convolution import convolve_int64
from spiking_networks import Case, cases, constants, examples, integer_network, naive_simulation
from test_engines import assert_same_log, assert_same_recording

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking.event import engine as event
from negspike.spiking.event import kernels as event_kernels
from negspike.spiking.event.engine import EventEngine, arrange, list_type, tile_width
from negspike.spiking.graph import THRESHOLD_EXTRA_BITS
from negspike.spiking.recording import Recording
from negspike.spiking.reference import ReferenceEngine
from negspike.training.topology import parse_topology


def random_network(
    topology: str, shape: tuple[int, int, int], k: int = 1, weight_bits: int = 16, padding: str = "same", seed: int = 0
) -> SpikingNetwork:
    """Batch norm calibrated by nothing at all: some layers busy, some quiet."""
    random = np.random.default_rng(seed)
    layers = []
    parsed = parse_topology(topology, shape, padding)
    for geometry in parsed.layers:
        outputs, *rest = geometry.weight_shape
        layers.append(
            {
                "weight": random.normal(0, 1 / np.sqrt(np.prod(rest)), geometry.weight_shape),
                "gamma": random.uniform(0.3, 2, outputs) * random.choice([-1, 1, 1], outputs),
                "beta": random.normal(0, 0.5, outputs),
                "mean": random.normal(0, 0.2, outputs),
                "var": random.uniform(0.05, 0.5, outputs),
                "eps": 1e-5,
            }
        )
    classifier = random.normal(0, 1, (parsed.features, 10))
    return SpikingNetwork.from_batchnorm(topology, shape, k, layers, classifier, padding, weight_bits)


def check(network: SpikingNetwork, encoded: np.ndarray, timesteps: int, threads: int = 1) -> Recording:
    found = EventEngine(network, threads).run(encoded, timesteps)
    assert_same_recording(found, ReferenceEngine(network).run(encoded, timesteps))
    return found


@examples(150)
@given(case=cases())
def test_equals_reference(case: Case) -> None:
    network = case.network()
    check(network, network.encode(case.images), case.timesteps)


@examples(40)
@given(case=cases(images=3), timesteps=st.integers(event_kernels.BLOCK - 1, 3 * event_kernels.BLOCK + 1))
def test_blocks_of_steps_join(case: Case, timesteps: int) -> None:
    network = case.network()
    check(network, network.encode(case.images), timesteps)


@examples(40)
@given(case=cases(largest_side=4, largest_width=3, depth=4, images=2, timesteps=7))
def test_equals_the_naive_simulation(case: Case) -> None:
    network = case.network()
    found = EventEngine(network, 1).run(network.encode(case.images), case.timesteps)
    for number, image in enumerate(case.images):
        expected = naive_simulation(network, image, case.timesteps)
        assert found.predictions[number].tolist() == expected.predictions
        assert found.positive[number].tolist() == expected.positive
        assert found.negative[number].tolist() == expected.negative
        assert found.sops[number].tolist() == expected.sops
        assert [layer[number].ravel().tolist() for layer in found.counts] == expected.counts


@examples(30)
@given(case=cases(images=9, timesteps=30), chunk=st.sampled_from([1, 4, 9]), task=st.sampled_from([1, 1 << 12]))
def test_nothing_depends_on_chunks_tasks_threads_or_batches(case: Case, chunk: int, task: int) -> None:
    network = case.network()
    expected = simulate(network, case.images, case.labels, case.timesteps, 50, "reference")
    with constants(event, LARGEST_CHUNK=chunk, TASK_NEURONS=task):
        found = simulate(network, case.images, case.labels, case.timesteps, chunk + 1, "event", 1 + chunk % 3)
    assert_same_log(found, expected)
    assert found.batch_size == chunk + 1


@pytest.mark.parametrize("weight_bits", [16, 24])
@pytest.mark.parametrize(
    ("topology", "shape", "padding"),
    [
        ("40C3-96C3-P2-130C3-70", (3, 11, 13), "same"),  # tiles of both widths, some of them filled up
        ("24C3-64C5-P3-65", (2, 20, 9), "valid"),
        ("16C3-33C3-10", (1, 19, 19), "same"),  # more positions than a list is made for at a time
        ("100-200-90", (1, 8, 8), "same"),
    ],
)
def test_tiles_and_lists(topology: str, shape: tuple[int, int, int], padding: str, weight_bits: int) -> None:
    network = random_network(topology, shape, 1, weight_bits, padding)
    encoded = network.encode(np.random.default_rng(1).normal(0, 1, (3, *shape)))
    recording = check(network, encoded, 80, threads=2)
    with constants(event, TILE_WIDTHS=(32,)):
        assert set(arrange(network).layers[:, event_kernels.WIDTH]) == {32}
        check(network, encoded, 80)
    assert (recording.positive.sum((0, 1)) > 0).all(), "a layer never spikes: nothing was tested"
    assert recording.negative.sum() > 0
    positions = [layer.geometry.out_shape[1] * layer.geometry.out_shape[2] for layer in network.layers]
    assert topology != "16C3-33C3-10" or positions[1] > event_kernels.LIST_POSITIONS


def test_lists_longer_than_one_part() -> None:
    network = random_network("160C3-64C3-10", (3, 16, 16), 2)
    encoded = network.encode(np.random.default_rng(1).normal(0, 3, (1, 3, 16, 16)))
    recording = check(network, encoded, 40)
    assert recording.sops.sum() / 64 > 2 * event_kernels.LIST_ENTRIES


@examples(100)
@given(
    theta=st.integers(1, 1 << 50) | st.integers(1, 1000),
    base=st.integers(-(1 << 52), 1 << 52),
    level=st.integers(-3, 25) | st.integers(0, 1 << 12),
    offset=st.integers(-2, 2),
)
def test_the_first_layer_divides_exactly(theta: int, base: int, level: int, offset: int) -> None:
    """A quotient is taken in floating point and put right: at a tie and beside it, for any threshold."""
    network = integer_network("1", (1, 1, 1), [[1]], [theta], [base], [[0], [1]])
    encoded = np.array(base + level * theta + offset, np.int64).reshape(1, 1, 1, 1)
    recording = EventEngine(network, 1).run(encoded, 20)
    expected = min(max((level * theta + offset) // theta, 0), 20)
    assert recording.counts[0].item() == recording.positive.sum() == expected


PROCESSORS = {"AVX2": ("haswell", "+avx2", 256), "any x86": ("x86-64", "", 0)}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other instructions of x86, and this is another processor")
@pytest.mark.parametrize("name", PROCESSORS)
def test_other_processors(name: str, tmp_path: Path) -> None:
    """Rows are added, and stored, as the processor likes it best; here as older ones would."""
    processor, features, bits = PROCESSORS[name]
    program = """
        import numpy as np
        from test_event import check, event_kernels, random_network
        shape = (3, 5, 7)
        for weight_bits in (16, 24):
            network = random_network("40C3-96C3-P2-70", shape, 1, weight_bits)
            recording = check(network, network.encode(np.random.default_rng(1).normal(0, 1, (2, *shape))), 70)
            assert (recording.positive.sum((0, 1)) > 0).all() and recording.negative.sum() > 0
        print(event_kernels.PAIR_BITS)
        """
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(bits)]


# --- widths ---------------------------------------------------------------------------------------------------------


def bombardment(inputs: int, weight: int, theta: int, weight_bits: int = 16, sign: int = 1) -> SpikingNetwork:
    """Inputs that spike in every step, all onto neurons that keep up with them or do not."""
    weights = [np.ones(inputs), np.full((2, inputs), sign * weight), np.ones((3, 2))]
    thetas: list[Any] = [1 << 16, [theta << 16, (theta << 16) - 7], 1 << 16]
    return integer_network(
        f"{inputs}-2-3", (1, 1, 1), weights, thetas, [0, 5, 0], [[1, 0, 0], [0, 1, 1]], 0, weight_bits
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("inputs", "theta"), [(2000, 1), (2000, 1 << 15), (2000, 1 << 27), (600, 1)])
def test_potentials_that_leave_32_bits_are_done_again_with_64(inputs: int, theta: int, sign: int) -> None:
    """2000 inputs of weight 32767 bring a potential past 2^31 in 33 steps, 600 in 110, which is in another block."""
    network = bombardment(inputs, 32767, theta, sign=sign)
    assert not arrange(network).wide.any()
    images = np.array([200.0, 0.0, 3.0, 200.0]).reshape(4, 1, 1, 1)
    recording = check(network, network.encode(images), 140)
    assert 0 < recording.potential_bounds[1] <= event_kernels.LARGEST_INT32
    # 3 steps of input stay within 32 bits, 140 do not.
    assert recording.positive[2, :, 0].sum() == 3 * inputs


@pytest.mark.parametrize("magnitude", [(1 << 23) - 1, 255, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_24_bit_weights_are_cut_before_they_overflow(magnitude: int, sign: int) -> None:
    """Whole weights before 32 bits do, their low bytes (255 of 255 and of -1) before 16 bits do."""
    for inputs, negative in ((257, 0), (600, 0), (600, 300)):
        weight = np.full((2, inputs), sign * magnitude)
        weight[1, : inputs // 2] *= -1
        # The second layer's spikes are positive at first; inhibition makes some negative later.
        network = integer_network(
            f"{inputs}-{inputs}-2",
            (1, 1, 1),
            [
                np.full(inputs, 1 << 15),  # makes all weights 24 bits wide
                np.eye(inputs) - np.eye(inputs, k=1) * (np.arange(inputs) < negative),
                weight,
            ],
            [1 << 31, 1 << 16, magnitude << 20],
            [0, 0, 11],
            [[1, 0], [0, 1]],
        )
        assert arrange(network).wide.all()
        check(network, network.encode(np.array([0.0, 1.0, 40.0]).reshape(3, 1, 1, 1)), 50)


@pytest.mark.parametrize("theta", [1 << 44, 1 << 46, (1 << 50) + 12345])
def test_large_thresholds_take_64_bits_in_their_tile_alone(theta: int) -> None:
    thetas = np.full(70, 3 << 16)
    thetas[66] = theta
    random = np.random.default_rng(0)
    weights = [random.integers(-3, 4, 12), random.integers(-9, 10, (70, 12)), random.integers(-3, 4, (5, 70))]
    network = integer_network(
        "12-70-5", (1, 1, 1), weights, [1 << 14, thetas, 1 << 15], [0, 17, 4], np.eye(5, dtype=int)
    )
    wide = arrange(network).wide
    assert wide[:-1].sum() == (theta >> 16 >= event.LARGEST_NARROW)
    check(network, network.encode(np.array([-2.0, 0.7, 4.0]).reshape(3, 1, 1, 1)), 40)


@examples(60)
@given(case=cases(bits=(2, 16)))
def test_no_potential_went_beyond_the_bound(case: Case) -> None:
    """The bound covers the largest potential of a plain simulation, and 32 bits cover the bound."""
    network = case.network()
    encoded = network.encode(case.images)
    bounds = EventEngine(network, 1).run(encoded, case.timesteps).potential_bounds
    largest = np.zeros(len(network.layers), np.int64)
    for steps in range(1, case.timesteps + 1):
        # Net counts after each step give the input, and with it every residual, of the next layer.
        counts = ReferenceEngine(network).run(encoded, steps).counts
        for number in range(1, len(network.layers)):
            layer = network.layers[number]
            current = convolve_int64(counts[number - 1].astype(np.int64), layer.weight, layer.geometry)
            theta, base = layer.theta[:, None, None], layer.base[:, None, None]
            residual = (current << THRESHOLD_EXTRA_BITS) - base - counts[number] * theta
            largest[number] = max(largest[number], int(np.abs(residual >> 16).max()))
        if steps > 12:
            break
    wide = arrange(network).wide
    layers = arrange(network).layers
    for number in range(1, len(network.layers)):
        tiles = slice(layers[number, event_kernels.FIRST_TILE], None)
        tiles = slice(tiles.start, tiles.start + layers[number, event_kernels.TILES])
        if not wide[tiles].any():
            assert largest[number] <= bounds[number] <= event_kernels.LARGEST_INT32


def test_layers_too_large_for_32_bit_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network("4C3-5", (1, 4, 4))
    monkeypatch.setattr(event_kernels, "LARGEST_INT32", 4000)
    with pytest.raises(InputError, match=r"layer 0 \(4C3\) is too large for engine 'event'; use 'dense'"):
        EventEngine(network)


def test_tile_width() -> None:
    sizes = (1, 24, 32, 64, 96, 128, 256, 384)
    assert [tile_width(outputs) for outputs in sizes] == [32, 32, 32, 64, 32, 64, 64, 64]


@pytest.mark.parametrize(
    ("topology", "shape", "short"),
    [
        ("2C3-30", (1, 4, 4), True),
        ("5C1-30", (1, 114, 114), True),  # 64,980 inputs of a neuron
        ("5C1-30", (1, 115, 115), False),  # 66,125
        ("40C1-P2-P2-P2-30", (1, 8, 1030), False),  # 65,920 channels of a row of neurons
    ],
)
def test_lists_are_as_wide_as_they_must_be(topology: str, shape: tuple[int, int, int], short: bool) -> None:
    network = random_network(topology, shape)
    assert list_type(arrange(network).layers) is (np.uint16 if short else np.int32)
    recording = check(network, network.encode(np.random.default_rng(0).normal(0, 1, (2, *shape))), 12)
    assert (recording.positive.sum((0, 1)) > 0).all()


@examples(15)
@given(case=cases(images=3, timesteps=20))
def test_long_lists(case: Case) -> None:
    network = case.network()
    with constants(event, LARGEST_SHORT_LIST=0):
        check(network, network.encode(case.images), case.timesteps)


def test_many_threads_have_a_few_images_each_before_they_wait() -> None:
    network = random_network("4C3-5", (1, 4, 4))
    with constants(event, CHUNK_BYTES=1):
        assert [EventEngine(network, threads).chunk_size for threads in (1, 2, 64, 1000)] == [4, 8, 256, 500]


@pytest.mark.parametrize("weight_bits", [16, 24])
def test_rows_of_both_widths_are_aligned(weight_bits: int) -> None:
    layers = arrange(random_network("33-24-64-10", (1, 3, 3), weight_bits=weight_bits)).layers
    assert (layers[:, event_kernels.FIRST_BYTE] % event.ALIGNMENT == 0).all()
    assert set(layers[1:, event_kernels.WIDTH]) == {32, 64}


# --- until silent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["event", "dense", "reference"])
def test_until_silent(engine: str) -> None:
    """As long as any image spikes and one step more, in which none does; the same as with a generous T."""

    @examples(25)
    @given(case=cases(images=8, timesteps=1))
    def run(case: Case) -> None:
        network = case.network()
        with constants(event, LARGEST_CHUNK=3):
            found = simulate(network, case.images, case.labels, "until_silent", 50, engine, timesteps_cap=90)
        expected = simulate(network, case.images, case.labels, 90, 50, "reference")
        steps = found.correct.shape[1]
        for name in ("correct", "spikes", "net_spikes", "sops", "positive", "negative"):
            array = getattr(expected, name)
            np.testing.assert_array_equal(getattr(found, name), array[:, :steps], err_msg=name)
        busy = np.flatnonzero((expected.positive + expected.negative).sum(0))
        assert steps == min(int(busy.max(initial=-1)) + 2, 90)
        np.testing.assert_array_equal(found.silent, expected.silent)
        np.testing.assert_array_equal(found.predictions, expected.predictions)
        for array, other in zip(found.counts, expected.counts, strict=True):
            np.testing.assert_array_equal(array, other)

    run()


def test_until_silent_stops_at_the_cap() -> None:
    network = integer_network("1-1", (1, 1, 1), [[1], [1]], [1 << 16] * 2, [0, 0], [[0], [1]])
    images = np.array([0.0, 50.0]).reshape(2, 1, 1, 1)
    for cap, silent in ((50, False), (51, True)):
        log = simulate(network, images, np.zeros(2), "until_silent", engine="event", timesteps_cap=cap)
        assert log.correct.shape == (2, cap)
        assert log.silent.tolist() == [True, silent]
    with pytest.raises(InputError, match="timesteps is 'silent': it must be a number or 'until_silent'"):
        simulate(network, images, np.zeros(2), "silent")
