"""The ``posthoc`` stage: other logits from a trained model's outputs."""

from __future__ import annotations

from ltbench.engine.environment import Meter
from ltbench.engine.job import Workbench
from ltbench.engine.outputs import load_outputs, save_outputs
from ltbench.registry import MODELS, build
from ltbench.store import Artifact


def apply_posthoc(bench: Workbench) -> Artifact:
    """Apply the step to the parent's test logits."""
    meter = Meter()
    step = build(MODELS, bench.config['step'], class_counts=bench.data.class_counts)
    outputs = load_outputs(bench.parent.path('test.npz'))
    logits = step.logits(outputs)
    return bench.publish(meter.read(), lambda folder: save_outputs(folder / 'test.npz', logits, outputs.labels))
