"""Files for hardware: each says all of the network, to a reader that shares no code with what wrote it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nets
import nir
import numpy as np
import pytest
import torch
from conftest import OneLine
from graphs import Graph, examples, graphs
from hypothesis import given
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from test_golden import network_of
from torch import nn

import negspike
from negspike import SpikingNetwork, simulate
from negspike.commands import main
from negspike.errors import InputError
from negspike.export import capped
from negspike.export import json as to_json
from negspike.export import nir as to_nir
from negspike.export import qonnx as to_qonnx
from negspike.spiking.nodes import Neurons
from negspike.spiking.storage import describe


def same(a: SpikingNetwork, b: SpikingNetwork) -> None:
    """All of two networks, types included."""
    (header, arrays), (expected, others) = (describe(x) for x in (a, b))
    assert header == expected and arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype
        np.testing.assert_array_equal(array, others[name], err_msg=name)


# --- JSON ------------------------------------------------------------------------------------------------------------


def replayed(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    populations = [node["name"] for node in content["nodes"] if node["kind"] == "neurons"]
    for vector in content["vectors"]:
        steps = vector["spikes"]
        runs = list(nets.replay(content, vector["input"], len(steps)))
        _, counts, logits = runs[-1]
        for step, (emitted, _, _) in zip(steps, runs, strict=True):
            assert list(step) == populations
            for name, places in step.items():
                assert [np.flatnonzero(emitted[name] == sign).tolist() for sign in (1, -1)] == [
                    places["+1"],
                    places["-1"],
                ]
        assert {name: counts[name].ravel().tolist() for name in populations} == vector["counts"]
        assert logits.tolist() == vector["logits"] and vector["prediction"] == int(logits.argmax())
        assert vector["silent"] == (not any(emitted[name].any() for name in populations))
    return content


@examples(25)
@given(graphs())
def test_a_testbench_repeats_the_vectors(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    path = tmp_path_factory.mktemp("json") / "net.json"
    assert to_json.write(graph.network, path, images=graph.images, timesteps=graph.timesteps) == graph.timesteps
    content = replayed(path)
    log = simulate(graph.network, graph.images, timesteps=graph.timesteps, engine="reference")
    assert [vector["prediction"] for vector in content["vectors"]] == log.predictions.tolist()
    assert [vector["silent"] for vector in content["vectors"]] == (log.silent >= 0).tolist()


def test_vectors_end_with_silence(tmp_path: Path) -> None:
    network, images = nets.residual()
    steps = to_json.write(network, tmp_path / "net.json", images=images)
    content = replayed(tmp_path / "net.json")
    assert all(vector["silent"] for vector in content["vectors"]) and network.latency_bound is not None
    assert steps == simulate(network, images, engine="dense").silent.max() + 1 <= network.latency_bound + 1
    expected = network.activations(images)
    for number, vector in enumerate(content["vectors"]):
        assert vector["logits"] == expected[network.readout.name][number].tolist()
        assert all(
            vector["counts"][one.name] == expected[one.name][number].ravel().tolist() for one in network.populations
        )


# --- NIR -------------------------------------------------------------------------------------------------------------


@examples(60)
@given(graphs())
def test_nir_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    to_nir.write(graph.network, path)
    same(to_nir.read(path), graph.network)


@examples(40)
@given(graphs())
def test_what_standard_nodes_of_nir_say_is_what_the_network_does(graph: Graph) -> None:
    log = simulate(graph.network, graph.images, timesteps=graph.timesteps, engine="reference")
    for number, image in enumerate(graph.images):
        counts, logits = nets.run_nir(to_nir.build(graph.network), image, graph.timesteps)
        for name, expected in log.counts.items():
            np.testing.assert_array_equal(counts[name].reshape(expected.shape[1:]), expected[number], err_msg=name)
        np.testing.assert_array_equal(logits * graph.network.readout.unit, log.logits[number])


def test_other_readers_take_the_nir(tmp_path: Path) -> None:
    network, images = nets.residual()
    to_nir.write(network, tmp_path / "net.nir")
    same(to_nir.read(tmp_path / "net.nir"), network)
    graph = nir.read(tmp_path / "net.nir", type_check=False)
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert kinds == {"Input", "Conv2d", "Scale", "IF", "SumPool2d", "Flatten", "Linear", "I", "Output"}
    log = simulate(network, images[:2], engine="dense")
    for number, image in enumerate(images[:2]):
        counts, logits = nets.run_nir(graph, image, log.timesteps)
        assert all((counts[name].ravel() == found[number].ravel()).all() for name, found in log.counts.items())
        assert (logits * network.readout.unit == log.logits[number]).all()


def test_nir_type_checks_where_its_checks_are_right(tmp_path: Path) -> None:
    """NIR 1.0 takes every kernel as square and every convolution as of one group."""
    path = Path(__file__).parents[1] / "golden/lenet_k1.npz"
    with np.load(path, allow_pickle=False) as stored:
        network = network_of({name: stored[name] for name in stored.files}, 8)
    to_nir.write(network, tmp_path / "net.nir")
    assert nir.read(tmp_path / "net.nir").output_type
    same(to_nir.read(tmp_path / "net.nir"), network)


def test_nir_that_is_not_ours_or_was_changed(tmp_path: Path) -> None:
    network, _ = nets.residual()
    path = tmp_path / "net.nir"
    to_nir.write(network, path)
    whole = path.read_bytes()
    with OneLine(InputError, "there is no such file"):
        to_nir.read(tmp_path / "none.nir")
    for content in (b"", b"no HDF5", whole[:2000], whole[: len(whole) // 2], b"\x80\x04pickle"):
        path.write_bytes(content)
        with OneLine(InputError, str(path), "export it again"):
            to_nir.read(path)
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3)))))
    with OneLine(InputError, str(path), "not a NIR graph written by this package"):
        to_nir.read(path)
    population = network.populations[0].name
    for where, place in (("v_threshold", f"node/nodes/{population}"), ("weight", f"node/nodes/{population}:0:weight")):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            file[place][where][0] += 1
        with OneLine(InputError, str(path), "export it again"):
            to_nir.read(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        group = file["node/nodes"][population]
        del group["r"]
        group.create_dataset("r", (1 << 34,), "f8", chunks=True)
    with OneLine(InputError, "promises more than the file holds"):
        to_nir.read(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["node/nodes"][population]["r"]
        file["node/nodes"][population]["r"] = np.ones((8, 8, 7))
    with OneLine(InputError, population, "r is not of shape (8, 8, 8)"):
        to_nir.read(path)


def test_nir_with_any_bytes_changed(tmp_path: Path) -> None:
    """Either the same network or one line."""
    network, _ = nets.residual()
    path, random = tmp_path / "net.nir", np.random.default_rng(0)
    to_nir.write(network, path)
    whole, refused = path.read_bytes(), 0
    for _ in range(40):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[random.integers(0, len(changed), 8)] = random.integers(0, 256, 8)
        path.write_bytes(changed.tobytes())
        try:
            same(to_nir.read(path), network)
        except InputError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert 5 < refused < 40


def test_a_name_that_hdf5_does_not_have(tmp_path: Path) -> None:
    network, _ = nets.residual()
    last = replace(network.readout, name=".")
    with OneLine(InputError, "node '.'"):
        to_nir.write(replace(network, nodes=(*network.nodes[:-1], last)), tmp_path / "net.nir")


# --- QONNX -----------------------------------------------------------------------------------------------------------


def executed(path: Path, network: SpikingNetwork, images: np.ndarray) -> None:
    """Every population's counts and the logits, as QONNX's own executor computes them."""
    model, expected = ModelWrapper(str(path)), network.activations(images)
    for number, image in enumerate(network.encode(images)):
        found = execute_onnx(model, {"input": image[None].astype(np.float64)}, return_full_exec_context=True)
        for one in network.populations:
            np.testing.assert_array_equal(found[one.name][0].transpose(2, 0, 1), expected[one.name][number], one.name)
        np.testing.assert_array_equal(found[network.readout.name][0], expected[network.readout.name][number])


@pytest.mark.slow
def test_qonnx_executes_to_the_same_integers(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: set[str] = set()

    @examples(40)
    @given(graphs(images=2, nodes=5))
    def check(graph: Graph) -> None:
        path, network = tmp_path_factory.mktemp("qonnx") / "net.onnx", capped(graph.network, 40)
        try:
            to_qonnx.write(network, path)
        except InputError as error:  # proved of the network's numbers, whatever the images
            assert "float64 is exact up to 53" in str(error)
            assert not path.exists()
            return
        seen.update(graph.features)
        executed(path, network, np.clip(graph.images, -127, 127))

    check()
    assert seen >= {"max pool", "sum pool", "shared taps", "groups", "channels", "targets", "low below 0", "residual"}


def test_qonnx_of_a_residual_net(tmp_path: Path) -> None:
    network, images = nets.residual()
    to_qonnx.write(network, tmp_path / "net.onnx")
    executed(tmp_path / "net.onnx", network, images[:2])
    model = ModelWrapper(str(tmp_path / "net.onnx"))
    assert model.get_tensor_datatype("input").name == "INT24"
    assert all(model.get_tensor_datatype(one.name).name == "UINT3" for one in network.populations)
    for node in model.graph.node:
        if node.op_type == "MatMul":
            assert model.get_tensor_datatype(node.input[1]).bitwidth() <= 8


def test_qonnx_needs_bounds_and_sums_that_are_exact(tmp_path: Path) -> None:
    network, _ = nets.residual()
    first = network.populations[0]

    def with_first(**values: Any) -> SpikingNetwork:
        return replace(network, nodes=tuple(replace(n, **values) if n is first else n for n in network.nodes))

    with OneLine(InputError, first.name, "no bound", "--levels-cap"):
        to_qonnx.write(with_first(high=None), tmp_path / "net.onnx")
    with OneLine(InputError, first.name, "levels", "65,536"):
        to_qonnx.write(with_first(high=1 << 20), tmp_path / "net.onnx")
    wide = replace(network.readout.synapses[0], scale=np.full(10, 1 << 45))
    readout = replace(network.readout, synapses=(wide,))
    with OneLine(InputError, network.readout.name, "float64 is exact up to 53"):
        to_qonnx.write(replace(network, nodes=(*network.nodes[:-1], readout)), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_populations_that_the_conversion_adds(tmp_path: Path) -> None:
    """One that is always 1, and one of counts with other signs."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, padding=1),
    )
    model, images = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)).eval(), torch.randn(3, 1, 8, 8)
    model[2].weight.data, model[2].bias.data = torch.tensor([1.0, -1, 0.5, -2]), torch.tensor([0.5, 0, -1, 0.25])
    quantised = negspike.quantize(model, images, levels=7)
    network = negspike.convert(quantised, images, weight_bits=8)
    assert [one.name for one in network.populations] == ["1", "3.signs", "ones", "5"]
    to_json.write(network, tmp_path / "net.json", images=images.numpy())
    replayed(tmp_path / "net.json")
    to_nir.write(network, tmp_path / "net.nir")
    same(to_nir.read(tmp_path / "net.nir"), network)
    to_qonnx.write(network, tmp_path / "net.onnx")
    executed(tmp_path / "net.onnx", network, images.numpy())


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network, images = nets.residual()
    network.save("net.npz")
    np.savez("images.npz", images=images)
    everything = ["export", "net.npz", "--json", "net.json", "--nir", "net.nir", "--qonnx", "net.onnx"]
    assert main([*everything, "--data", "images.npz", "--vectors", "2", "--timesteps", "9"]) == 0
    content = replayed(Path("net.json"))
    assert [len(vector["spikes"]) for vector in content["vectors"]] == [9, 9]
    assert [vector["input"] for vector in content["vectors"]] == network.encode(images[[0, 3]]).tolist()
    same(to_nir.read("net.nir"), network)
    executed(Path("net.onnx"), network, images[:1])
    first = {name: Path(name).read_bytes() for name in ("net.json", "net.onnx")}
    assert main([*everything[:4]]) == main([*everything[:4]]) == 0
    assert len(replayed(Path("net.json"))["vectors"]) == 3 and Path("net.onnx").read_bytes() == first["net.onnx"]
    capsys.readouterr()
    assert main([*everything, "--levels-cap", "2", "--data", "images.npz"]) == 0
    assert (
        "levels cap: 0 of 6 predictions and 0 of 9,396 activations differ" in capsys.readouterr().out
    )  # bounded as it is


def test_a_cap_is_in_all_files_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, images = nets.residual()
    nodes = tuple(replace(node, high=None) if isinstance(node, Neurons) else node for node in network.nodes)
    free = replace(network, nodes=nodes)
    files = [str(tmp_path / name) for name in ("net.npz", "images.npz", "net.nir", "net.onnx", "net.json")]
    free.save(files[0])
    np.savez(files[1], images=images)
    command = ["export", files[0], "--nir", files[2], "--qonnx", files[3], "--json", files[4], "--levels-cap", "3"]
    assert main(command) == 0 and "not compared" in capsys.readouterr().out
    assert main([*command, "--data", files[1]]) == 0
    printed = capsys.readouterr().out
    expected, found = free.activations(images), capped(free, 3).activations(images)
    differing = sum((expected[one.name] != found[one.name]).sum() for one in free.populations)
    assert (
        differing > 0 and f" of 6 predictions and {differing:,} of {6 * free.neurons:,} activations differ" in printed
    )
    same(to_nir.read(files[2]), capped(free, 3))
    executed(Path(files[3]), capped(free, 3), images[:1])
    assert all(node["high"] == 3 for node in replayed(Path(files[4]))["nodes"] if node["kind"] == "neurons")


def test_all_of_the_files_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """QONNX wants bounds; what was written before it knew stays unwritten."""
    network, _ = nets.residual()
    nodes = tuple(replace(node, high=None) if isinstance(node, Neurons) else node for node in network.nodes)
    files = [str(tmp_path / name) for name in ("net.npz", "net.json", "net.nir", "net.onnx")]
    replace(network, nodes=nodes).save(files[0])
    assert main(["export", files[0], "--json", files[1], "--nir", files[2], "--qonnx", files[3]]) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["net.npz"]
    assert main(["export", files[0], "--json", files[1], "--nir", files[1]]) == 1
    assert "different files" in capsys.readouterr().err


def test_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = nets.residual()
    net, out = str(tmp_path / "net.npz"), str(tmp_path / "out")
    network.save(net)
    np.savez(tmp_path / "images.npz", images=images[:, :, :5])
    for arguments, words in (
        ([net], "--json, --nir or --qonnx"),
        ([str(tmp_path / "none.npz"), "--json", out], "there is no such file"),
        ([net, "--json", out, "--data", str(tmp_path / "images.npz")], "images have shape"),
        ([net, "--json", out, "--data", str(tmp_path / "none")], "no such folder"),
    ):
        assert main(["export", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and words in error
        assert not Path(out).exists()
    for package, option in (
        ("nir", "--nir"),
        ("h5py", "--nir"),
        ("onnx", "--qonnx"),
        ("qonnx.core.modelwrapper", "--qonnx"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            if package == "h5py":
                with OneLine(InputError, "h5py", "pip install 'negspike[export]'"):
                    to_nir.read(out)
                continue
            assert main(["export", net, option, out]) == 1
            error = capsys.readouterr().err
            assert error.count("\n") == 1 and package.partition(".")[0] in error and "negspike[export]" in error
            assert not Path(out).exists()
