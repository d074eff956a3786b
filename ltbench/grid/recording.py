"""Which runs have a record and which lack one, and how one is made: by scoring the stored logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltbench import __version__
from ltbench.data import load_data
from ltbench.errors import DataError, StoreError
from ltbench.evaluation import evaluate
from ltbench.evaluation.metrics import describe_groups
from ltbench.evaluation.predictions import Predictions, write_with_predictions
from ltbench.fingerprint import PROTOCOL_VERSION
from ltbench.grid.graph import Graph, Run
from ltbench.grid.status import StageState
from ltbench.method import build_method, make_plan, probes_of
from ltbench.record import SCHEMA_VERSION, RecordIndex, is_valid, read_record, record_name, record_path
from ltbench.store import DamagedArtifactError, Store
from ltbench.suite import Suite


def without_recorded(graph: Graph, suite: Suite) -> Graph:
    """The runs without a record. A run with one is left out even if its artifacts are gone."""
    return Graph(run for run in graph.runs if not is_valid(path_of_record(run, suite)))


def unrecorded(graph: Graph, suite: Suite, store: Store) -> Iterator[tuple[Run, Path]]:
    """Finished runs without a record, or whose record lacks a later probe; each with the path of its record."""
    for run in graph.runs:
        path = path_of_record(run, suite)
        if all(store.find(end) is not None for end in run.ends) and not _holds(path, run.ends[1:]):
            yield run, path


def _holds(path: Path, probes: Sequence[str]) -> bool:
    """Whether there is a valid record that includes these ``probe`` stages."""
    try:
        return {stage['fingerprint'] for stage in read_record(path)['stages']}.issuperset(probes)
    except StoreError:
        return False


def just_finished(graph: Graph, states: Mapping[str, StageState]) -> Iterator[Run]:
    """Runs whose last stage or a probe has just been carried out, and that have nothing left to do."""
    for run in graph.runs:
        ends = [states[end].state for end in run.ends if end in states]
        is_finished = run.fingerprint not in states or states[run.fingerprint].state == 'done'
        if ends and is_finished and all(state in ('done', 'failed', 'blocked') for state in ends):
            yield run


def path_of_record(run: Run, suite: Suite) -> Path:
    """Where a run's record is, or will be."""
    return record_path(suite.name, identity_of(run))


def record_run(run: Run, store: Store, path: Path) -> dict[str, Any]:
    """Score a finished run's stored logits and write its record, with its predictions."""
    last = store.find(run.fingerprint)
    if last is None:
        raise DamagedArtifactError(f'the artifact {run.fingerprint[:12]} is gone')
    with np.load(last.path('test.npz')) as outputs:
        logits, labels = outputs['logits'], outputs['labels']
    data = load_data(run.benchmark.data)  # read again, if other data sets have taken its place in memory
    if data.fingerprint != run.data:
        raise DataError(f'{data.title} has changed on disk since this run was planned; run the command again')
    lineage, model = last.meta['lineage'], last.meta['model']
    probed, analysis, not_measured = _measured(run, store)
    warnings = {warning for row in (*lineage, *probed) for warning in row['warnings']} | not_measured
    record = identity_of(run) | {
        'computation': _computation(run),
        'schema': SCHEMA_VERSION,
        'ltbench': __version__,
        'protocol': PROTOCOL_VERSION,
        'data': run.data,
        'code': last.meta['environment']['code'],
        'methods': [{'name': spec.name, 'options': build_method(spec, run.benchmark).values} for spec in run.method],
        'stages': [{key: row[key] for key in ('kind', 'fingerprint', 'epochs', 'cost')} for row in (*lineage, *probed)],
        'config': {
            'benchmark': run.benchmark.resolved,
            'stages': [{'kind': stage.kind, **stage.config} for stage in run.stages if stage.is_complete],
            **({'probes': list(asked)} if (asked := probes_of(run.method)) else {}),
        },
        'class_names': list(data.class_names),
        'class_counts': data.class_counts,
        'groups': describe_groups(data.class_counts),
        'metrics': evaluate(logits, labels, data.class_counts),
        'curve': model['curve'],
        'analysis': model['analysis'] | analysis,
        'chosen': last.meta.get('chosen', {}),
        'warnings': sorted({*warnings, *run.plan.notes, *run.benchmark.notes, *data.notes}),
        'cost': {
            'parameters': model['parameters'],
            'flops': model['flops'],
            'wall_seconds': round(sum(row['cost']['wall_seconds'] for row in lineage), 3),
            'cpu_seconds': round(sum(row['cost']['cpu_seconds'] for row in lineage), 3),
            'images_per_second': model['images_per_second'],
            'peak_memory_mb': max(row['cost']['peak_memory_mb'] for row in lineage),
        },
        'environment': last.meta['environment'],
    }
    write_with_predictions(path, record, Predictions.of_logits(logits, labels))
    return record


def _measured(run: Run, store: Store) -> tuple[list[dict[str, Any]], dict[str, Any], set[str]]:
    """Lineage rows of a run's probes, their measurements, and a note on each probe that could not be run."""
    rows: list[dict[str, Any]] = []
    analysis: dict[str, Any] = {}
    notes: set[str] = set()
    for name, stage in zip(run.measured_by, run.probes, strict=True):
        artifact = store.find(stage.fingerprint)
        if artifact is None:
            failure = store.read(stage.fingerprint, 'failure')
            notes.add(f'the probe {name} measured nothing: {failure["reason"] if failure else "it was not run"}')
            continue
        rows.append(artifact.meta['lineage'][-1])
        analysis |= artifact.meta['measured']
    return rows, analysis, notes


def identity_of(run: Run) -> dict[str, Any]:
    """The fields that identify a run's record, see :data:`ltbench.record.IDENTITY`."""
    return {
        'benchmark': run.benchmark.name,
        'imbalance_factor': run.benchmark.data.get('imbalance_factor'),
        'setting': run.benchmark.setting,
        'table': run.benchmark.table(run.data),
        'method': str(run.method),
        'run_seed': run.seed,
        'fingerprint': run.fingerprint,
    }


def _computation(run: Run) -> str:
    """What a run computes apart from its seed: runs that differ here never share a row."""
    if run.seed == 0:
        return run.fingerprint
    return make_plan(run.method, run.benchmark, run.data, 0).stages()[-1].fingerprint


def note_on_other_tables(suite: Suite, graph: Graph) -> str:
    """A note on records of the same runs in other tables (other data, recipe or protocol); '' if there are none."""
    recorded = RecordIndex(suite.name)
    if not recorded.by_run:
        return ''
    found = []
    for run in graph.runs:
        identity = identity_of(run)
        found += [(run, fields) for fields in recorded.instead_of(record_name(identity), identity)[1]]
    return other_tables_note(found)


def other_tables_note(found: Sequence[tuple[Run, Mapping[str, Any]]]) -> str:
    """The note on such records, each with its run: how they differ from it; see ``RecordIndex.instead_of``."""
    kinds = Counter(_what_differs(run, fields) for run, fields in found)
    if not kinds:
        return ''
    counts = [
        f'{count} {"record was" if count == 1 else "records were"} made with {kind}'
        for kind, count in sorted(kinds.items())
    ]
    where = 'a separate table' if len({fields['table'] for _, fields in found}) == 1 else 'separate tables'
    return f'{", ".join(counts)}; {"it stays" if len(found) == 1 else "they stay"} in {where}'


def _what_differs(run: Run, fields: Mapping[str, Any]) -> str:
    if fields['data'] != run.data:
        return f'other data ({(fields["data"] or "")[:6] or "unknown"})'
    if fields['protocol'] != PROTOCOL_VERSION:
        return f'protocol {fields["protocol"]}'
    return 'another backbone or recipe'
