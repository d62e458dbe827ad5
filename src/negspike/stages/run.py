"""What rules tell their scripts: which network of the experiment, how it is simulated, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from negspike.config import precision_level
from negspike.data.registry import dataset_spec
from negspike.training.network import Network
from negspike.training.topology import parse_topology

Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Run:
    """One network of the experiment.

    Attributes:
        name: of the net.
        net: what it is, as :meth:`negspike.config.Definition.science` gives it.
        seed: training repetition.
        precision: ``fp32`` or ``k0``, ``k1``, ...
        weight_bits: width of the rounded weights; None in full precision.
    """

    name: str
    net: Mapping[str, Any]
    seed: int
    precision: str
    weight_bits: int | None

    @property
    def k(self) -> int | None:
        """The quantisation level, None in full precision."""
        return precision_level(self.precision)

    def network(self) -> Network:
        """The network with its initial weights."""
        spec = dataset_spec(self.net["dataset"])
        topology = parse_topology(
            self.net["topology"], spec.input_shape, self.net["padding"], self.net["width"], spec.classes
        )
        return Network(topology, self.k, self.weight_bits, self.seed)


@dataclass(frozen=True)
class Simulation:
    """How a test set is simulated.

    Attributes:
        timesteps: T, or ``until_silent``.
        timesteps_cap: with ``until_silent``, never more steps than this.
        batch_size: images that share one run of lines in the four log files.
        engine: ``auto`` or the name of one; the numbers are the same.
    """

    timesteps: int | str
    timesteps_cap: int
    batch_size: int
    engine: str = "auto"


@dataclass(frozen=True)
class Hardware:
    """What a job computes on.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads.
    """

    device: str
    threads: int
