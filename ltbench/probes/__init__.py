"""Probes: measurements inside a trained network, for runs that request them; :class:`Probe` says how to add one."""

from ltbench.probes import bn, norms, strength
from ltbench.probes.base import Probe, Seen, entry_of

__all__ = ['ALWAYS', 'Probe', 'Seen', 'bn', 'entry_of', 'norms', 'strength']

ALWAYS = ('bn_vectors', 'channel_strength')
"""Measured with every network when it is evaluated, requested or not: so every method has a baseline to compare with,
and the images need not pass through the network a second time."""
