"""A stage carried out: mmengine's Runner trains networks and heads (:mod:`ltbench.engine.fit`)."""
