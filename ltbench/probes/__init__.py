"""Probes: what is measured inside a trained network, for those runs that ask; see :class:`Probe` for how to add one."""

from ltbench.probes import bn, norms, strength
from ltbench.probes.base import Probe, Seen, entry_of

__all__ = ['ALWAYS', 'Probe', 'Seen', 'bn', 'entry_of', 'norms', 'strength']

ALWAYS = ('bn_vectors', 'channel_strength')
"""Measured with every network as it is evaluated, whether somebody asks or not: so every method has a baseline to be
compared with, and no second look at the images is needed."""
