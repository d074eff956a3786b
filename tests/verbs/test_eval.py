"""`ltbench eval RUN`: what the stored logits give, beside what the record says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ltbench.cli import main
from ltbench.errors import StoreError
from ltbench.evaluation.predictions import Predictions, predictions_of, write_with_predictions
from ltbench.record import predictions_path, write_record
from ltbench.verbs.eval import complete_records, show_rescored


def edited(path, change):
    """Metrics changed and sealed again, as by somebody who knows how, or by another version of the metrics' code."""
    record = json.loads(path.read_text())
    change(record['metrics'])
    write_record(path, {key: value for key, value in record.items() if key != 'checksum'})


def test_an_honest_record_is_equal_bit_for_bit(recorded, capsys):
    assert show_rescored(recorded().stem) == 0
    printed = capsys.readouterr().out
    assert 'Equal, bit for bit: all 23 entries match the 200 stored logits.' in printed
    assert 'differ' not in printed


@pytest.mark.parametrize(
    ('change', 'row', 'metric'),
    [
        (lambda m: m.update(nll=m['nll'] + 0.01), 'differs by 0.01', 'nll'),
        (lambda m: m.update(ece_few=None), 'differs', 'ece_few'),
        (lambda m: m['per_class'].__setitem__(slice(8, 10), m['per_class'][:7:-1]), '2 of 10 differ', 'per_class'),
        (lambda m: m['confusion'].update(few=None), '5 of 13 differ', 'confusion'),
        (lambda m: m.update(made_up=3.0), '3.000000', 'made_up'),
    ],
)
def test_an_edited_record_is_found_out(recorded, capsys, change, row, metric):
    path = recorded()
    edited(path, change)
    assert show_rescored(path.stem) == 1
    printed = capsys.readouterr().out
    assert row in next(line for line in printed.splitlines() if line.strip().startswith(metric))
    assert f'entries differ ({metric}). It was edited' in printed


def test_metrics_that_a_record_was_written_without_are_added_and_nothing_else(recorded, capsys):
    path = recorded()
    whole = json.loads(path.read_text())
    edited(path, lambda m: [m.pop(name) for name in ('shifted', 'auroc', 'top5')])
    older = path.read_bytes()
    assert show_rescored(path.stem) == 0
    assert 'Not recorded yet: top5, auroc, shifted; `ltbench eval --all` adds them.' in capsys.readouterr().out
    assert path.read_bytes() == older
    assert complete_records() == 0
    assert 'completed: 1' in capsys.readouterr().out
    assert json.loads(path.read_text()) == whole | {'metrics': whole['metrics']}
    assert complete_records() == 0
    assert 'complete: 1' in capsys.readouterr().out
    edited(path, lambda m: (m.pop('shifted'), m.update(nll=m['nll'] + 0.01)))
    before = path.read_bytes()
    assert complete_records() == 1
    assert f'{path}: nll differ' in capsys.readouterr().out
    assert path.read_bytes() == before


def test_predictions_are_added_to_records_of_before_and_made_again_where_they_are_lost(recorded, capsys):
    path = recorded(kept=False)
    assert show_rescored(path.stem) == 0
    assert 'Not recorded yet: predictions; `ltbench eval --all` adds them.' in capsys.readouterr().out
    for lose in (lambda file: None, lambda file: file.unlink(), lambda file: file.write_bytes(b'cut')):
        lose(predictions_path(path))
        assert complete_records() == 0
        assert 'completed: 1' in capsys.readouterr().out
        assert len(predictions_of(path)) == 200
    assert complete_records() == 0
    assert 'complete: 1' in capsys.readouterr().out
    assert show_rescored(path.stem) == 0
    assert 'all 23 entries' in capsys.readouterr().out


def test_predictions_of_other_logits_are_found_out(recorded, capsys):
    path = recorded()
    kept = predictions_of(path)
    (first, second), *_ = ((a, b) for a in range(200) for b in range(a) if kept.predicted[a] != kept.predicted[b])
    predicted = kept.predicted.copy()
    predicted[[first, second]] = predicted[[second, first]]
    other = Predictions(kept.labels, predicted, kept.p_right, kept.p_predicted)
    write_with_predictions(path, json.loads(path.read_text()), other)
    assert show_rescored(path.stem) == 1
    assert 'entries differ (predictions)' in capsys.readouterr().out
    before = path.read_bytes()
    assert complete_records() == 1
    assert f'{path}: predictions differ from its logits' in capsys.readouterr().out
    assert path.read_bytes() == before


def test_lost_predictions_without_a_store_are_named(recorded, capsys):
    path = recorded(stored=False)
    predictions_path(path).unlink()
    assert complete_records() == 1
    assert f'{predictions_path(path)} of {path.name} is missing' in capsys.readouterr().out


def test_a_damaged_record_is_named_and_the_others_are_completed(recorded, capsys):
    damaged, older = recorded(seed=0), recorded(seed=1)
    damaged.write_text(damaged.read_text()[:100])
    edited(older, lambda m: m.pop('auroc'))
    assert complete_records() == 1
    printed = capsys.readouterr().out
    assert str(damaged) in printed
    assert 'completed: 1' in printed
    assert 'auroc' in json.loads(older.read_text())['metrics']


def test_a_record_of_other_classes_than_its_logits_is_named(recorded):
    path = recorded()
    record = json.loads(path.read_text())
    for values in (record['class_names'], record['class_counts']):
        values.append(values[-1])
    for name, value in {'per_class': None, 'test_images': 0, 'predicted': 0}.items():
        record['metrics'][name].append(value)
    record['groups']['few'] += 1
    write_record(path, record)
    with pytest.raises(StoreError, match='do not fit together: 10 columns of logits for 11 class counts'):
        show_rescored(path.stem)


def test_rounding_is_no_difference_and_is_said(recorded, capsys):
    path = recorded()
    edited(path, lambda m: m.update(nll=m['nll'] * (1 + 1e-14)))
    assert show_rescored(path.stem) == 0
    assert 'Equal, apart from rounding (at most ' in capsys.readouterr().out


def test_logits_that_are_not_there(recorded, sandbox):
    path = recorded(stored=False)
    with pytest.raises(StoreError) as error:
        show_rescored(path.stem)
    assert str(error.value) == (
        f'the logits of digits/{path.stem} are not in {sandbox}/store; make them with: '
        "ltbench run digits -b 'digits_lt(imbalance_factor=40)' -m erm --seeds 0"
    )


def test_imports_keep_no_logits(recorded):
    record = json.loads(recorded().read_text())
    config = record['config'] | {'stages': [], 'imported': {'source': 'nbn', 'backbone': {'type': 'CIFARResNet'}}}
    path = recorded('imported:nbn(best)', suite='imported', config=config, stored=False)
    with pytest.raises(
        StoreError, match='was imported, so its logits are not stored; score it again: ltbench eval --checkpoint FILE'
    ):
        show_rescored(path.stem)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'nothing to evaluate: give a recorded RUN (`ltbench ls runs` lists them), or --checkpoint FILE'),
        (['abc', '-b', 'digits_lt'], "-b belong to a checkpoint, not to the recorded run 'abc'"),
        (['abc', '--checkpoint', 'f', '--preset', 'p'], '--checkpoint, --preset belong to a checkpoint'),
        (['--checkpoint', 'f', '-b', 'digits_lt'], 'a checkpoint needs --from too: ltbench eval --checkpoint FILE'),
        (['--suite', 'x'], 'a checkpoint needs --checkpoint, --from, -b too'),
    ],
)
def test_two_forms_that_do_not_mix(sandbox, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['ltbench', 'eval', *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in printed
    assert len(printed.splitlines()) == 1


def test_it_needs_no_torch(recorded):
    code = f'import sys; from ltbench.verbs.eval import show_rescored; show_rescored({recorded().stem!r}); '
    code += "import ltbench.verbs.compare; assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
