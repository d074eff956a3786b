"""The grid: runs, their graph of stages, and the executors that carry it out."""

from ltbench.grid import local as local
from ltbench.grid import ray_cluster as ray_cluster
from ltbench.grid import slurm as slurm
