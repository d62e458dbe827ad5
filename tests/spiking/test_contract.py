"""What every engine promises, on random graphs: every number is that of loops over Python's integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from graphs import ENGINES, MOST_STEPS, Case, Graph, cases, constants, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle, Result

from negspike import SimulationLog, SpikingNetwork, simulate
from negspike.spiking import dense
from negspike.spiking.bounds import check_potentials
from negspike.spiking.recording import Recording
from negspike.spiking.reference import ReferenceEngine
from negspike.spiking.simulation import make_engine, run_logged

# Of so many graphs, the first engine; the others are as many each.
REFERENCE_GRAPHS, OTHER_GRAPHS, CHAINS = 700, 300, 100


def check_image(recording: Recording, number: int, expected: Result) -> None:
    """One picture's numbers in every step, and its counts and logits at the end."""
    assert recording.predictions[number].tolist() == expected.predictions
    assert recording.positive[number].tolist() == expected.positive
    assert recording.negative[number].tolist() == expected.negative
    assert recording.sops[number].tolist() == expected.sops
    assert recording.layer_sops[number].tolist() == expected.layer_sops
    assert recording.relays[number].tolist() == expected.relays
    assert {name: counts[number].ravel().tolist() for name, counts in recording.counts.items()} == expected.counts
    assert recording.logits[number].tolist() == expected.logits


def assert_same_recording(found: Recording, expected: Recording) -> None:
    for name in ("predictions", "positive", "negative", "layer_sops", "relays", "logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.counts.keys() == expected.counts.keys()
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts, err_msg=name)
        assert found.counts[name].dtype == counts.dtype == np.int32


def check_silence(network: SpikingNetwork, oracle: Oracle, image: np.ndarray, result: Result) -> bool:
    """A silent picture has the closed form, the package's own too; and it is silent when that was certified."""
    exact = oracle.activations(image)
    found = network.activations(image[None])
    assert {name: values[0].ravel().tolist() for name, values in found.items()} == exact
    if result.silent >= 0:
        assert exact == result.counts | {network.readout.name: result.logits}
    if network.latency_bound is not None and network.latency_bound < len(result.positive):
        assert 0 <= result.silent <= network.latency_bound
    return result.silent >= 0


def check_graph(network: SpikingNetwork, images: np.ndarray, timesteps: int, engine: str) -> int:
    """How many pictures fell silent; everything that an engine promises is asserted."""
    encoded = network.encode(images)
    check_potentials(network, timesteps=timesteps, largest_pixel=int(np.abs(encoded).max()))
    recording = make_engine(network, engine, threads=1).run(encoded, timesteps)
    for name in ("predictions", "positive", "negative", "sops", "layer_sops", "relays", "logits"):
        assert getattr(recording, name).dtype == np.int64, name
    assert all(counts.dtype == np.int32 for counts in recording.counts.values())
    oracle = Oracle(network)
    silent = 0
    for number, image in enumerate(images):
        expected = oracle.simulate(image, timesteps)
        check_image(recording, number, expected)
        silent += check_silence(network, oracle, image, expected)
    return silent


# What the drawn graphs have; each in one of fifty at least.
FEATURES = {
    *("overlapping windows", "dilation", "stride", "asymmetric padding", "not square", "one class"),
    *("targets", "channels", "groups", "depthwise", "shared taps", "identity", "sum pool", "concat"),
    *("negative scale", "zero scale", "branches", "image and spikes", "residual", "sum of sums"),
    *("max pool", "max pool of signed counts", "a sum read by several", "bounded", "unbounded"),
    *("any low", "low 0", "low below 0", "silent", "still spiking", "certified"),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_graphs(engine: str) -> None:
    seen: Counter[str] = Counter()

    @examples(REFERENCE_GRAPHS if engine == "reference" else OTHER_GRAPHS)
    @given(graph=graphs())
    def check(graph: Graph) -> None:
        silent = check_graph(graph.network, graph.images, graph.timesteps, engine)
        bound = graph.network.latency_bound
        seen.update(graph.features)
        seen.update({"graphs": 1, "silent": silent > 0, "still spiking": silent < len(graph.images)})
        seen["certified"] += bound is not None and 0 < bound < graph.timesteps

    check()
    rare = {name: seen[name] for name in FEATURES if 50 * seen[name] < seen["graphs"]}
    assert not rare, rare


@pytest.mark.parametrize("engine", ENGINES)
def test_chains(engine: str) -> None:
    """Converted from batch norm, dead channels and negative gammas included."""

    @examples(CHAINS)
    @given(case=cases(largest_side=4, largest_width=3, depth=4, images=2, timesteps=12))
    def check(case: Case) -> None:
        check_graph(case.network(), case.images, case.timesteps, engine)

    check()


# --- logs -----------------------------------------------------------------------------------------------------------


def assert_same_log(found: SimulationLog, expected: SimulationLog) -> None:
    assert (found.correct is None) == (expected.correct is None)
    for item in fields(SimulationLog):
        if item.name not in ("counts", "correct", "batch_size", "potential_bounds"):
            np.testing.assert_array_equal(getattr(found, item.name), getattr(expected, item.name), err_msg=item.name)
    if expected.correct is not None:
        np.testing.assert_array_equal(found.correct, expected.correct)
    assert found.counts.keys() == expected.counts.keys()
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts, err_msg=name)


@contextmanager
def chunks(size: int) -> Iterator[None]:
    """Every engine simulates so many images at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceEngine, "chunk_size", size)
        patch.setattr(dense, "LARGEST_CHUNK", size)
        patch.setattr("negspike.spiking.event.engine.LARGEST_CHUNK", size)
        yield


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_depends_on_chunks_threads_or_batches(engine: str) -> None:
    """...nor on how much of a chunk is worked on; and the log is what the oracle counts."""

    @examples(60)
    @given(graph=graphs(images=5, nodes=4), chunk=st.sampled_from([1, 2, 4]), share=st.sampled_from([0.0, 0.5, 1.0]))
    def check(graph: Graph, chunk: int, share: float) -> None:
        network, images, labels, timesteps = graph.network, graph.images, graph.labels, graph.timesteps
        options: dict[str, Any] = {"timesteps": timesteps, "engine": engine}
        whole = simulate(network, images, labels, threads=1, **options)
        with chunks(chunk), constants(dense, WHOLE_CHUNK_SHARE=share):
            parts = simulate(network, images, labels, threads=1 + chunk % 3, batch_size=chunk + 1, **options)
        assert_same_log(parts, whole)
        assert (whole.batch_size, parts.batch_size) == (50, chunk + 1)
        oracle = Oracle(network)
        results = [oracle.simulate(image, timesteps) for image in images]
        assert whole.correct is not None
        for number, result in enumerate(results):
            positive, negative = np.sum(result.positive, 1), np.sum(result.negative, 1)
            assert whole.correct[number].tolist() == [found == labels[number] for found in result.predictions]
            assert whole.spikes[number].tolist() == np.cumsum(positive + negative).tolist()
            assert whole.net_spikes[number].tolist() == np.cumsum(positive - negative).tolist()
            assert whole.sops[number].tolist() == np.cumsum(result.sops).tolist()
            assert whole.relays[number].tolist() == np.cumsum(result.relays).tolist()
            assert whole.predictions[number] == result.predictions[-1]
            assert whole.silent[number] == result.silent
            assert whole.logits[number].tolist() == [value * network.readout.unit for value in result.logits]
            net = sum(sum(counts) for counts in result.counts.values())
            assert whole.net_spikes[number, -1] == net
        for name in ("positive", "negative", "layer_sops"):
            total = np.sum([getattr(result, name) for result in results], 0)
            assert getattr(whole, name).tolist() == total.T.tolist()

    check()


@pytest.mark.parametrize("engine", ENGINES)
def test_more_steps_change_nothing_before(engine: str) -> None:
    """T and 2T begin alike; an image that was silent at T stays silent, with the same counts."""

    @examples(40)
    @given(graph=graphs(nodes=4))
    def check(graph: Graph) -> None:
        network, images, labels, half = graph.network, graph.images, graph.labels, min(graph.timesteps, 20)
        short, long = (simulate(network, images, labels, timesteps=t, engine=engine) for t in (half, 2 * half))
        for name in ("correct", "spikes", "net_spikes", "sops", "relays"):
            np.testing.assert_array_equal(getattr(long, name)[:, :half], getattr(short, name), err_msg=name)
        silent = short.silent >= 0
        np.testing.assert_array_equal(long.silent[silent], short.silent[silent])
        np.testing.assert_array_equal(long.sops[silent, -1], short.sops[silent, -1])
        np.testing.assert_array_equal(long.logits[silent], short.logits[silent])
        for name, counts in short.counts.items():
            np.testing.assert_array_equal(long.counts[name][silent], counts[silent])

    check()


@pytest.mark.parametrize("engine", ENGINES)
def test_until_silent(engine: str) -> None:
    """As long as any image spikes and one step more, in which none does; the same as with a generous T."""

    @examples(40)
    @given(graph=graphs(nodes=4))
    def check(graph: Graph) -> None:
        network = graph.network
        with pytest.MonkeyPatch.context() as patch, chunks(2):
            patch.setattr(run_logged, "__kwdefaults__", {"cap": MOST_STEPS, "report": None})
            found = simulate(network, graph.images, graph.labels, engine=engine)
        expected = simulate(network, graph.images, graph.labels, timesteps=MOST_STEPS, engine=engine)
        assert_same_log(found, expected.until_silent())
        busy = np.flatnonzero((expected.positive + expected.negative).sum(0))
        assert found.timesteps == min(int(busy.max(initial=-1)) + 2, MOST_STEPS)
        if network.latency_bound is not None and network.latency_bound < MOST_STEPS:
            assert found.timesteps <= network.latency_bound + 1

    check()
