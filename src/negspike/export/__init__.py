"""A spiking network for people who build hardware: as JSON with test vectors, as NIR, as QONNX (docs/export.md)."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from negspike.errors import InputError
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import Neurons


def package(name: str) -> Any:
    """An optional package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name.partition('.')[0]} cannot be imported ({error}); pip install 'negspike[export]' brings it"
        ) from error


def capped(network: SpikingNetwork, levels: int) -> SpikingNetwork:
    """The network with counts from -levels to levels where it has no bound of its own.

    It is another network for images that need larger counts: compare its activations.

    Args:
        network: any.
        levels: largest count, at least 1.

    Raises:
        InputError: there is no level, or levels do not fit 32 bits.
    """
    if levels < 1:
        raise InputError(f"levels is {levels}: it must be at least 1")
    nodes = tuple(
        replace(node, low=-levels if node.low is None else node.low, high=levels if node.high is None else node.high)
        if isinstance(node, Neurons)
        else node
        for node in network.nodes
    )
    return replace(network, nodes=nodes)
