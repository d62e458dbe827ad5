"""Small graph networks, built as PyTorch modules from their description: every number of the four logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import negspike
from negspike.spiking.logs import read_logs

GOLDEN = Path(__file__).parents[1] / "golden"
NETS = ["graph_residual", "graph_mobile", "graph_pools"]


class FromSpec(nn.Module):
    """A graph of nodes; each module has its node's name."""

    def __init__(self, golden: Any) -> None:
        super().__init__()
        self.spec = json.loads(str(golden["spec"]))
        for node in self.spec:
            module = getattr(self, f"make_{node['op']}")(node, golden)
            if module is not None:
                self.add_module(node["name"], module)
                for name, parameter in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
                    key = f"w.{node['name']}.{self.names[node['op']].get(name, name)}"
                    if key in golden:
                        parameter.data.copy_(torch.from_numpy(golden[key]))

    names: dict[str, dict[str, str]] = {
        "batchnorm": {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}
    } | {op: {} for op in ("conv", "linear", "quant", "maxpool", "avgpool", "gap", "flatten")}

    def make_conv(self, node: dict[str, Any], golden: Any) -> nn.Module:
        outputs, inputs, *kernel = golden[f"w.{node['name']}.weight"].shape
        groups = node.get("groups", 1)
        options = {name: node[name] for name in ("stride", "padding", "dilation") if name in node}
        return nn.Conv2d(inputs * groups, outputs, kernel, groups=groups, bias=node.get("bias", False), **options)

    def make_linear(self, node: dict[str, Any], golden: Any) -> nn.Module:
        outputs, inputs = golden[f"w.{node['name']}.weight"].shape
        return nn.Linear(inputs, outputs, bias=node.get("bias", False))

    def make_batchnorm(self, node: dict[str, Any], golden: Any) -> nn.Module:
        return nn.BatchNorm2d(len(golden[f"w.{node['name']}.gamma"]), eps=node["eps"])

    def make_quant(self, node: dict[str, Any], golden: Any) -> nn.Module:
        if node["low"] == 0:
            return negspike.QuantReLU(step=node["step"], levels=node["high"])
        return negspike.QuantIdentity(step=node["step"], low=node["low"], high=node["high"])

    def make_maxpool(self, node: dict[str, Any], golden: Any) -> nn.Module:
        return nn.MaxPool2d(node["kernel"], node["stride"], node["padding"])

    def make_avgpool(self, node: dict[str, Any], golden: Any) -> nn.Module:
        return nn.AvgPool2d(node["kernel"], node["stride"])

    def make_gap(self, node: dict[str, Any], golden: Any) -> nn.Module:
        return nn.AdaptiveAvgPool2d(1)

    def make_flatten(self, node: dict[str, Any], golden: Any) -> nn.Module:
        return nn.Flatten()

    def make_add(self, node: dict[str, Any], golden: Any) -> None:
        return None

    make_concat = make_add

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = {"input": images}
        for node in self.spec:
            inputs = [values[name] for name in node["inputs"]]
            if node["op"] == "add":
                values[node["name"]] = inputs[0] + inputs[1]
            elif node["op"] == "concat":
                values[node["name"]] = torch.cat(inputs, 1)
            else:
                values[node["name"]] = self.get_submodule(node["name"])(inputs[0])
        return values[self.spec[-1]["name"]]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("engine", ["reference", "dense", "event"])
def test_every_number(name: str, engine: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    model = FromSpec(golden).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    network = negspike.convert(model, golden["images"][:1])
    log = negspike.simulate(
        network,
        golden["images"],
        golden["labels"],
        timesteps=int(golden["timesteps"]),
        batch_size=int(golden["batch_size"]),
        engine=engine,
    )

    log.write(tmp_path)
    read = read_logs(tmp_path, int(golden["timesteps"]), int(golden["batch_size"]), signed=network.signed)
    for key in ("accuracy", "spike_num", "spike_collect", "sop_num"):
        np.testing.assert_array_equal(getattr(read, key).ravel(), golden[key], err_msg=key)
    quantisers = [node["name"] for node in json.loads(str(golden["spec"])) if node["op"] == "quant"]
    assert sorted(log.counts) == sorted(quantisers)
    activations = network.activations(golden["images"])
    for quantiser in quantisers:
        expected = golden[f"counts.{quantiser}"]
        np.testing.assert_array_equal(log.counts[quantiser].reshape(expected.shape), expected, err_msg=quantiser)
        np.testing.assert_array_equal(activations[quantiser].reshape(expected.shape), expected, err_msg=quantiser)
    np.testing.assert_array_equal(log.logits, golden["logits"])
    with torch.no_grad():
        np.testing.assert_array_equal(model(torch.from_numpy(golden["images"]).float()).numpy(), golden["logits"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
