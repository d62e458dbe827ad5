"""Streaming: after any changes, a silent network is where a fresh run of the current image ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneLine
from graphs import Graph, chain, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from test_golden import network_of

import negspike
from negspike.data.dataset import Dataset, save_dataset
from negspike.errors import InputError
from negspike.results.evaluation import NotLosslessError
from negspike.stages import stream as stages
from negspike.stages.run import Hardware

Vgg = tuple[negspike.SpikingNetwork, np.ndarray]
VGG = Path(__file__).parents[1] / "golden/vgg_k1.npz"


@pytest.fixture(scope="module")
def vgg() -> Vgg:
    with np.load(VGG, allow_pickle=False) as stored:
        golden = {name: stored[name] for name in stored.files}
    return network_of(golden, 24), golden["images"]


@examples(25)
@given(graphs(images=4), st.data())
def test_a_silent_stream_is_where_a_fresh_run_ends(graph: Graph, data: st.DataObject) -> None:
    """Images one after the other, each for some steps or until silent, and back again to one seen before."""
    stream = negspike.Stream(graph.network)
    shown = data.draw(st.lists(st.integers(0, len(graph.images) - 1), min_size=1, max_size=4), label="images")
    for number in shown:
        stream.feed(graph.images[number], timesteps=data.draw(st.integers(1, 5), label="steps"))
    last = graph.images[shown[-1:]]
    log, fresh = stream.feed(last), negspike.simulate(graph.network, last, engine="event")
    if log.silent[0] < 0 or fresh.silent[0] < 0:
        return
    for name, counts in fresh.counts.items():
        np.testing.assert_array_equal(log.counts[name], counts, err_msg=name)
    np.testing.assert_array_equal(log.logits, fresh.logits)
    assert log.predictions == fresh.predictions
    again = stream.feed(last)
    assert again.silent[0] == 0 and again.spikes.max() == again.sops.max() == 0


def test_small_changes_cost_little_and_streams_run_side_by_side(
    vgg: tuple[negspike.SpikingNetwork, np.ndarray],
) -> None:
    network, images = vgg
    changed = images.copy()
    changed[:, :, 3, 3] += 0.25
    streams = negspike.Stream(network)
    first = streams.feed(torch.from_numpy(images))
    second, fresh = streams.feed(changed), negspike.simulate(network, changed)
    assert (second.silent >= 0).all() and (fresh.silent >= 0).all()
    for name, counts in fresh.counts.items():
        np.testing.assert_array_equal(second.counts[name], counts)
    assert 0 < second.sops[:, -1].sum() < fresh.sops[:, -1].sum() / 2
    # the operations of both frames, where each is simulated on its own
    assert (first.sops[:, -1] == negspike.simulate(network, images).sops[:, -1]).all()


def test_what_is_interrupted_starts_afresh(vgg: Vgg, monkeypatch: pytest.MonkeyPatch) -> None:
    """States that went half of the way are nobody's."""
    network, images = vgg
    stream = negspike.Stream(network)
    stream.feed(images[0])
    step, calls = stream._engine._step, list[Any]()

    def stopped(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(stream._engine, "_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        stream.feed(images[1])
    monkeypatch.undo()
    log, fresh = stream.feed(images[2]), negspike.simulate(network, images[2:3])
    np.testing.assert_array_equal(log.logits, fresh.logits)
    np.testing.assert_array_equal(log.sops, fresh.sops)


def test_refused(vgg: Vgg) -> None:
    network, images = vgg
    stream = negspike.Stream(network)
    with OneLine(InputError, "images have shape"):
        stream.feed(np.zeros((1, 3, 3)))
    with OneLine(InputError, "timesteps is 0"):
        stream.feed(images[0], timesteps=0)
    with OneLine(InputError, "no image"):
        stream.feed(images[:0])
    with OneLine(InputError, "threads is -1"):
        negspike.Stream(network, threads=-1)
    stream.feed(images[:2])
    with OneLine(InputError, "1 images for 2 streams"):
        stream.feed(images[0])
    with pytest.raises(InputError, match="not finite"):
        stream.feed(np.full_like(images[:2], np.nan))


def test_the_frames_that_are_streamed_move_a_pixel_at_a_time() -> None:
    pixels = np.arange(1, 1 + 20 * 16, dtype=np.uint16).reshape(20, 1, 4, 4)
    kinds = [kind for kind, shifts in stages.SCENES for _ in shifts]
    frames = dict(enumerate(stages._frames(pixels)))
    first, moved = frames[kinds.index("first")], frames[kinds.index("moves")]
    assert (first == pixels[:10]).all() and (frames[kinds.index("cut")] == pixels[10:]).all()
    assert (moved[..., 1:] == first[..., :-1]).all() and not moved[..., 0].any()
    start = kinds.index("moves in parts")
    parts = [frames[start + number] for number in (1, 3, 7)]
    whole = np.pad(pixels[10:, ..., :-1], ((0, 0), (0, 0), (0, 0), (1, 0)))
    for part, rows in zip(parts, (1, 2, 4), strict=True):
        assert (part[:, :, :rows] == whole[:, :, :rows]).all() and (part[:, :, rows:] == pixels[10:, :, rows:]).all()


def test_a_stream_that_ends_elsewhere_is_no_result(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = chain("3", (1, 8, 8), [np.ones(192)], [1 << 20], [0], np.ones((10, 3)), k=1)
    replace(network, origin={"k": 1}).save(tmp_path / "spiking.npz")
    arrays = {
        f"{split}_{what}": getattr(getattr(digits, split), {"images": "pixels"}.get(what, what))
        for split in ("train", "test")
        for what in ("images", "labels")
    }
    arrays |= {name: arrays[name].astype(np.uint8) for name in ("train_labels", "test_labels")}
    save_dataset(digits.spec, arrays, tmp_path / "digits.npz")

    def run(output: Path) -> None:
        stages.stream_images(
            "k1",
            {"dataset": "digits"},
            spiking=tmp_path / "spiking.npz",
            images=tmp_path / "digits.npz",
            output=output,
            hardware=Hardware("cpu", 1),
            report=lambda line: None,
        )

    run(tmp_path / "stream.csv")
    assert (tmp_path / "stream.csv").read_text().count("\n") == 1 + 26 * stages.STREAMS
    true = negspike.simulate

    def wrong(*arguments: Any, **options: Any) -> negspike.SimulationLog:
        log = true(*arguments, **options)
        log.counts["layer0"][120, 1] += 1
        return log

    monkeypatch.setattr(stages, "simulate", wrong)
    with pytest.raises(NotLosslessError, match="frame 12:"):
        run(tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()
