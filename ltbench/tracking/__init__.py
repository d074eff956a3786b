"""Recorded runs in experiment trackers: TensorBoard, MLflow, Weights & Biases; through mmengine's backends.

A tracker gets a run from its record, when that is written: training curve, final metrics, config, and suite, method and
fingerprint as tags. So it shows one complete run, even if the stages were trained for another run, on another machine
or with interruptions; and training never waits for a tracker.
"""

from ltbench.tracking.trackers import TRACKERS, Tracker
from ltbench.tracking.tracking import Tracking, check_installed

__all__ = ['TRACKERS', 'Tracker', 'Tracking', 'check_installed']
