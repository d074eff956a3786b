"""`ltbench new` writes two files or none."""

from __future__ import annotations

import pytest

from ltbench.errors import UsageError
from ltbench.verbs import new


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / 'pyproject.toml').touch()
    monkeypatch.setattr(new, 'ROOT_OF_PACKAGE', tmp_path / 'ltbench')
    return tmp_path


@pytest.mark.parametrize(
    ('name', 'loss'), [('cross_entropy', 'CrossEntropyLoss'), ('logit_adjusted', 'LogitAdjustedLoss')]
)
def test_a_loss_that_there_is_already_is_not_written_again(checkout, name, loss):
    with pytest.raises(UsageError, match=f'a {loss} exists already'):
        new.new_method(name)
    assert [path.name for path in checkout.iterdir()] == ['pyproject.toml']


def test_a_file_that_there_is_already_leaves_no_half(checkout):
    test = checkout / 'tests' / 'methods' / 'test_pairs.py'
    test.parent.mkdir(parents=True)
    test.write_text('theirs')
    with pytest.raises(UsageError, match='test_pairs.py exists already'):
        new.new_method('pairs')
    assert test.read_text() == 'theirs'
    assert not (checkout / 'methods').exists()
    new.new_method('couples')
    assert (checkout / 'methods' / 'couples.py').is_file()
    assert (checkout / 'tests' / 'methods' / 'test_couples.py').is_file()
