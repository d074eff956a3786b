"""The grid: runs, their graph of stages, and the executors that carry it out."""
