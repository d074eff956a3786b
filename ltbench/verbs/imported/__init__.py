"""Published checkpoints: files in the official formats, scored under our protocol without training.

A source is an official repository; it may have the same name as its method.
"""

from ltbench.verbs.imported.formats import SOURCES, Checkpoint, read_checkpoint
from ltbench.verbs.imported.network import build_imported
from ltbench.verbs.imported.score import score_checkpoint

__all__ = ['SOURCES', 'Checkpoint', 'build_imported', 'read_checkpoint', 'score_checkpoint']
