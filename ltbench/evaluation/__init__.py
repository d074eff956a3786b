"""Predictions to metrics."""

from ltbench.evaluation.metrics import GROUPS, evaluate, group_members

__all__ = ['GROUPS', 'evaluate', 'group_members']
