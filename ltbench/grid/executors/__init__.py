"""Executors carry out a graph: on this machine, on a Ray cluster, or as Slurm jobs."""
