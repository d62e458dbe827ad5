"""Compile the event-driven engine for weights of the usual widths, so that it is kept when many processes need it."""

import numpy as np

from negspike import SpikingNetwork, simulate

zero, one = np.zeros(1), np.ones(1)
layer = {"weight": np.ones((1, 1, 1, 1)), "gamma": one, "beta": zero, "mean": zero, "var": one, "eps": 1e-5}
for bits in (16, 24):
    network = SpikingNetwork.from_batchnorm("1-1", (1, 1, 1), 1, [layer, layer], np.ones((1, 2)), weight_bits=bits)
    simulate(network, np.ones((1, 1, 1, 1)), timesteps=1, engine="event")
