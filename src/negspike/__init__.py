"""Lossless conversion of quantised networks into integer spiking networks with negative spikes."""

__version__ = "0.1.0"

from negspike.spiking.network import SpikingNetwork
from negspike.spiking.recorder import SimulationLog
from negspike.spiking.simulation import simulate

__all__ = ["SimulationLog", "SpikingNetwork", "__version__", "simulate"]
