"""Predictions to metrics."""

from ltbench.evaluation.metrics import GROUPS, evaluate, evaluate_predictions, group_members

__all__ = ['GROUPS', 'evaluate', 'evaluate_predictions', 'group_members']
