"""`ltbench eval RUN --predictions`: the surest mistakes, and all test images as CSV."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ltbench.data import load_data
from ltbench.data.base import FileSplit
from ltbench.errors import StoreError, UsageError
from ltbench.record import predictions_path
from ltbench.verbs.mistakes import _write, show_predictions

LABELS = np.arange(200) % 10


def logits_with_two_mistakes():
    """Image 5 is taken for 6, and image 117 for 2, more surely."""
    logits = 4 * np.eye(10, dtype=np.float32)[LABELS]
    logits[5, 6], logits[117, 2] = 5, 9
    logits[30, 1] = 3.9  # right, and the least sure
    return logits


@pytest.fixture
def path(recorded):
    return recorded(logits=logits_with_two_mistakes(), labels=LABELS, stored=False)


def test_the_surest_mistake_comes_first(path, capsys):
    show_predictions(path.stem)
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == '2 of 200 test images are misclassified.'
    assert lines[2] == 'The 2 most confident of these; --csv FILE writes every image.'
    # e^4 / (e^4 + e^9 + 8) and e^9 / the same; e^4 / (e^4 + e^5 + 8) and e^5 / the same
    assert lines[3:] == [
        'image class predicted p_class p_predicted', '117 7 2 0.00669 0.992', '5 5 6 0.259 0.703',
    ]  # fmt: skip


def test_a_file_has_all_images_with_the_surest_mistakes_first(path, tmp_path, main, capsys):
    target = tmp_path / 'mine.csv'
    assert main('eval', path.stem, '--predictions', '--csv', target) == 0
    assert f'all test images, most confident mistakes first: {target}' in capsys.readouterr().out
    with target.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    assert [int(row['image']) for row in rows[:4]] == [117, 5, 30, 0]
    assert (rows[0]['class'], rows[0]['predicted'], rows[0]['name'], rows[0]['label']) == ('7', '2', '', '7')


def test_no_class_name_is_a_formula_of_a_spreadsheet(tmp_path):
    _write(tmp_path / 'mine.csv', iter([(0, '=a.png', '=1+1', 'cat', '', '', 0, 1)]))
    assert (tmp_path / 'mine.csv').read_text().splitlines()[1] == "0,=a.png,'=1+1,cat,,,0,1"


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    target = tmp_path / 'mine.csv'
    target.write_text('earlier')

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(UsageError, match=r'cannot write .*mine.csv: No space left on device'):
        _write(target, iter([(0, 'a.png', 'cat', 'dog', '', '', 0, 1)]))
    assert target.read_text() == 'earlier'
    assert list(tmp_path.iterdir()) == [target]


def test_a_pipe_or_link_keeps_its_place(tmp_path):
    row, link = (0, 'a.png', 'cat', 'dog', '', '', 0, 1), tmp_path / 'link.csv'
    link.symlink_to(tmp_path / 'mine.csv')
    _write(link, iter([row]))
    assert link.is_symlink()
    assert 'a.png' in (tmp_path / 'mine.csv').read_text()
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    _write(pipe, iter([row]))
    assert os.read(reader, 1000).endswith(b'0,a.png,cat,dog,,,0,1\r\n')
    os.close(reader)
    assert pipe.is_fifo()


def test_from_the_store_where_none_were_kept_and_in_words_where_there_is_neither(recorded, capsys):
    path = recorded('erm', logits=logits_with_two_mistakes(), labels=LABELS, kept=False)
    show_predictions(path.stem)
    assert '2 of 200 test images' in capsys.readouterr().out
    path = recorded('nbn', stored=False, kept=False)
    with pytest.raises(UsageError, match='make them with: ltbench run digits -b'):
        show_predictions(path.stem)
    path = recorded('drw', stored=False)
    predictions_path(path).unlink()
    with pytest.raises(StoreError, match='predictions.npz of .* is missing'):
        show_predictions(path.stem)


def test_images_in_files_have_their_names(path, monkeypatch, capsys):
    data = load_data(json.loads(path.read_text())['config']['benchmark']['data'])
    names = np.array([f'val/{number}.jpg'.encode() for number in range(200)])
    test = FileSplit(path.parent, names, LABELS)
    monkeypatch.setattr(type(data), 'fingerprint', json.loads(path.read_text())['data'])
    monkeypatch.setattr(data, 'test', test)
    show_predictions(path.stem)
    assert '117    val/117.jpg  7' in capsys.readouterr().out
    monkeypatch.setattr(type(data), 'fingerprint', 'f' * 64)
    show_predictions(path.stem)
    printed = capsys.readouterr().out
    assert 'note: ' in printed
    assert 'has other contents than when the run was made, so images have no names here' in printed
    assert 'val/' not in printed


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--predictions'], '--predictions needs a recorded RUN'),
        (['--all', '--predictions'], '--all takes no other argument'),
        (['RUN', '--csv', 'x.csv'], '--csv needs --predictions'),
        (['RUN', '--predictions', '-b', 'digits_lt'], 'belong to a checkpoint'),
        (['RUN', '--predictions', '--csv', 'no/folder/x.csv'], 'cannot write no/folder/x.csv: No such file'),
    ],
)
def test_what_does_not_fit_is_one_line(path, main, capsys, words, said):
    assert main('eval', *(path.stem if word == 'RUN' else word for word in words)) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.splitlines()) == 1


def test_it_needs_no_torch(recorded):
    code = 'import sys; from ltbench.verbs.find import *; import ltbench.verbs.mistakes; '
    code += "assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
