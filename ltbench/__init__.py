"""ltbench: the benchmark suite for long-tailed recognition."""

__version__ = '0.1.0'
