"""Lossless conversion of quantised networks into integer spiking networks with negative spikes."""

__version__ = "0.1.0"
