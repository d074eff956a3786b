"""Runs stages: mmengine's Runner trains networks and heads (:mod:`ltbench.engine.fit`)."""
