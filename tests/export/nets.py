"""Networks that are exported, from PyTorch, and what reads the files without this package."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import negspike

Arrays = dict[str, np.ndarray]


class Residual(nn.Module):
    """As the preset digits_residual, with all poolings, a grouped and a dilated convolution and one without a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.shrink, self.project = nn.Conv2d(8, 12, (3, 1), 2), nn.Linear(12, 6)
        self.pool, self.classifier = nn.MaxPool2d(3, 2, 1), nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.second(F.relu(self.first(x))) + x)
        x = F.relu(self.shrink(F.avg_pool2d(self.pool(x), 2, 1))).mean((2, 3))
        logits: torch.Tensor = self.classifier(F.relu(self.project(x)))
        return logits


@cache
def residual() -> tuple[negspike.SpikingNetwork, np.ndarray]:
    """A quantised residual net of 8x8 images as a network, and images for it."""
    torch.manual_seed(0)
    model, images = Residual(), torch.randn(24, 1, 8, 8)
    model(images)
    quantised = negspike.quantize(model.eval(), images, levels=7).eval()
    return negspike.convert(quantised, images[:2], weight_bits=8), images[:6].numpy()


# --- JSON ------------------------------------------------------------------------------------------------------------


def weights(one: dict[str, Any]) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(one["base64"]), np.dtype(one["dtype"]).newbyteorder("<"))
    return raw.reshape(one["shape"]).astype(np.int64)


def windows(x: np.ndarray, window: dict[str, Any], outside: int) -> np.ndarray:
    """(channels, height, width) to (channels, kernel height, kernel width, out height, out width)."""
    x = np.pad(x, [(0, 0), *window["padding"]], constant_values=outside)
    reach = [d * (k - 1) + 1 for k, d in zip(window["kernel"], window["dilation"], strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))
    (down, across), (a, b) = window["stride"], window["dilation"]
    return seen[:, ::down, ::across, ::a, ::b].transpose(0, 3, 4, 1, 2)


def arriving(synapse: dict[str, Any], emitted: np.ndarray, shape: list[int]) -> np.ndarray:
    seen = windows(emitted[synapse.get("channels", slice(None))], synapse["window"], 0)
    if "weight" in synapse:
        parts = np.split(seen, synapse["groups"])
        kernels = np.split(
            np.broadcast_to(w := weights(synapse["weight"]), (*w.shape[:2], *seen.shape[1:3])), len(parts)
        )
        sums = np.concatenate([np.einsum("oiab,iabyx->oyx", *pair) for pair in zip(kernels, parts, strict=True)])
    else:
        sums = seen.sum((1, 2))
    total = np.zeros(shape, np.int64)
    total[synapse.get("targets", slice(None))] = np.array(synapse["scale"])[:, None, None] * sums
    return total


def replay(network: dict[str, Any], image: list[Any], steps: int) -> Iterator[tuple[Arrays, Arrays, np.ndarray]]:
    """After each step what every node emitted, all net counts and the logits: docs/export.md, from the JSON alone."""
    nodes = network["nodes"]
    n = {node["name"]: np.zeros(node["shape"], np.int64) for node in nodes}
    v = {node["name"]: n[node["name"]] - np.array(node.get("base", [0]))[:, None, None] for node in nodes}
    for step in range(steps):
        emitted = {"input": np.array(image) * (step == 0)}
        for node in nodes:
            name = node["name"]
            if node["kind"] == "max_pool":
                emitted[name] = windows(n[node["source"]], node["window"], -(2**40)).max((1, 2)) - n[name]
            else:
                parts = [arriving(one, emitted[one["source"]], node["shape"]) for one in node["synapses"]]
                emitted[name] = np.sum(parts, 0)
            if node["kind"] == "neurons":
                theta = np.array(node["theta"])[:, None, None]
                low, high = (
                    2**40 * sign if node[key] is None else node[key] for key, sign in (("low", -1), ("high", 1))
                )
                v[name] = v[name] + emitted[name]
                emitted[name] = ((v[name] >= theta) & (n[name] < high)) * 1 - ((v[name] < 0) & (n[name] > low)) * 1
                v[name] = v[name] - theta * emitted[name]
            n[name] = n[name] + emitted[name]
        yield emitted, n, n[name][:, 0, 0] + np.array(node["bias"])


# --- NIR -------------------------------------------------------------------------------------------------------------


def convolved(node: Any, x: np.ndarray) -> np.ndarray:
    """A NIR Conv2d in integers."""
    assert not np.any(node.bias)
    (down, across), (a, b) = node.stride, node.dilation
    padded = np.pad(x, ((0, 0), *((int(side), int(side)) for side in node.padding)))
    kernel = node.weight.astype(np.int64)
    reach = a * (kernel.shape[2] - 1) + 1, b * (kernel.shape[3] - 1) + 1
    seen = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))[:, ::down, ::across, ::a, ::b]
    parts = zip(np.split(kernel, node.groups), np.split(seen, node.groups), strict=True)
    return np.concatenate([np.einsum("oiab,iyxab->oyx", *pair) for pair in parts])


def pooled(node: Any, x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), *((int(side), int(side)) for side in node.padding)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, tuple(node.kernel_size), axis=(1, 2))
    sums: np.ndarray = seen[:, :: node.stride[0], :: node.stride[1]].sum((3, 4))
    return sums


def in_order(graph: Any) -> list[str]:
    order: list[str] = []
    while len(order) < len(graph.nodes):
        order += [
            name
            for name in graph.nodes
            if name not in order and all(source in order for source, target in graph.edges if target == name)
        ]
    return order


def spread(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def run_nir(graph: Any, image: np.ndarray, steps: int) -> tuple[Arrays, np.ndarray]:
    """Net counts and logits at the end: standard nodes, and of metadata only what docs/export.md says."""
    order, n, v = in_order(graph), dict[str, Any](), dict[str, Any]()
    for step in range(steps):
        emitted: Arrays = {}
        for name in order:
            node, metadata = graph.nodes[name], graph.nodes[name].metadata
            sources = [source for source, target in graph.edges if target == name]
            x: Any = sum(emitted[source] for source in sources)
            if isinstance(node, nir.Input):
                x = (np.rint(image * 2.0**16).astype(np.int64) * (step == 0)).reshape(node.input_type["input"])
            elif isinstance(node, nir.SumPool2d) and "window" in metadata:
                x = most(metadata["window"], n[sources[0]]) - n.get(name, 0)
            elif isinstance(node, nir.SumPool2d):
                x = pooled(node, x)
            elif isinstance(node, nir.Conv2d):
                x = convolved(node, x)
            elif isinstance(node, nir.Linear):
                x = node.weight.astype(np.int64) @ x
            elif isinstance(node, nir.Flatten):
                x = x.reshape(-1)
            elif isinstance(node, nir.Scale):
                x = node.scale.astype(np.int64) * x
            elif isinstance(node, nir.I):
                v[name] = v.get(name, metadata["bias"]) + x
            elif isinstance(node, nir.IF):
                count, theta = n.get(name, np.zeros_like(x)), node.v_threshold.astype(np.int64)
                v[name] = v.get(name, -spread(metadata["base"], x)) + node.r.astype(np.int64) * x
                up = (v[name] >= theta) & (count < metadata.get("high", np.inf))
                down = (v[name] < 0) & (count > metadata.get("low", -np.inf))
                x = up * 1 - down * 1
                v[name] = v[name] - theta * x
            emitted[name], n[name] = x, n.get(name, 0) + x
    outputs = [source for source, target in graph.edges if isinstance(graph.nodes[target], nir.Output)]
    return n, v[outputs[0]]


def most(window: str, counts: np.ndarray) -> np.ndarray:
    largest: np.ndarray = windows(counts, json.loads(window), -(2**40)).max((1, 2))
    return largest
