"""Recorded runs in experiment trackers: TensorBoard, MLflow, Weights & Biases; through mmengine's backends.

A tracker gets a run when its record is written, from the record: training curve, final metrics, config, and suite,
method and fingerprint as tags. So a run whose stages were trained for another one, on another machine, or in three
goes is one whole run there, and training never waits for a tracker.
"""

from ltbench.tracking.trackers import TRACKERS, Tracker
from ltbench.tracking.tracking import Tracking, check_installed

__all__ = ['TRACKERS', 'Tracker', 'Tracking', 'check_installed']
