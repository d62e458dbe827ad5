"""A net, as rules hand it to their scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from negspike.data.registry import dataset_spec
from negspike.training.topology import Topology, parse_topology

Report = Callable[[str], None]


def network_topology(net: Mapping[str, Any]) -> Topology:
    """The topology of a net given as :meth:`negspike.config.Definition.science` gives it."""
    return parse_topology(net["topology"], dataset_spec(net["dataset"]).input_shape, net["padding"], net["width"])
