"""Who carries a graph out: this machine, a Ray cluster, or Slurm jobs; and what they start."""
