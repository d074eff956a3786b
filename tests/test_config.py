"""What a person types, and what it resolves to."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from ltbench.benchmark import load_benchmark, table_of
from ltbench.config import config_names, read_config
from ltbench.errors import UsageError, unknown
from ltbench.registry import METHODS
from ltbench.spec import Spec, parse_assignment, parse_seeds, parse_specs
from ltbench.suite import load_suite
from ltbench.verbs.new import METHOD

BENCHMARK = '''"""A benchmark of the tests."""

data = dict(type='DigitsLT', imbalance_factor=100, profile='exp', split_seed=0)
backbone = dict(type='CIFARResNet', depth=32)
recipe = dict(
    epochs=200,
    batch_size=128,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=2e-4),
    schedule=dict(type='step', warmup_epochs=5, at=[0.8, 0.9], gamma=0.01),
    augmentation=dict(crop_padding=4, flip=True),
    precision='fp32',
    devices=1,
)
presets = dict(
    quick=dict(recipe=dict(epochs=30, optimizer=dict(lr=0.05)), backbone=dict(depth=20)),
    cosine=dict(recipe=dict(schedule=dict(type='cosine', warmup_epochs=1))),
    broken=dict(recipe=dict(epoch=30)),
    strong=dict(recipe=dict(augmentation=dict(policies=[dict(type='Cutout', side=16)]))),
    wrong=dict(recipe=dict(augmentation=dict(policy=[dict(type='Cutout', side=16)]))),
)
'''

SUITE = '''"""A suite of the tests."""

benchmarks = ['toy_lt', 'toy_lt(imbalance_factor=10)']
methods = ['erm', dict(type='nbn', normalize='weight'), dict(type='ldam+drw', max_margin=0.3, **{'drw.start': 0.5})]
seeds = [0, 1]
preset = 'quick'
'''


@pytest.fixture(autouse=True)
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs of our own."""
    for kind, name, text in (('benchmarks', 'toy_lt', BENCHMARK), ('suites', 'tiny', SUITE)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f'{name}.py').write_text(text, encoding='utf-8')
    monkeypatch.setenv('LTBENCH_CONFIGS', str(tmp_path))
    return tmp_path


def refused(words: str, *arguments: Any, **options: Any) -> None:
    """Loading a benchmark with these arguments is an error that says ``words``."""
    with pytest.raises(UsageError) as error:
        load_benchmark(*arguments, **options)
    assert words in str(error.value)


# ------------------------------------------------------------------------------------------------ specs


@pytest.mark.parametrize(
    ('text', 'parts'),
    [
        ('erm', [('erm', {})]),
        ('erm()', [('erm', {})]),
        ('nbn(normalize=weight)+la_loss', [('nbn', {'normalize': 'weight'}), ('la_loss', {})]),
        (' nbn( normalize = weight ) + crt ', [('nbn', {'normalize': 'weight'}), ('crt', {})]),
        ('drw(start=0.5, beta=1e-3)', [('drw', {'start': 0.5, 'beta': 1e-3})]),
        ('drw(beta=1e+1)+crt', [('drw', {'beta': 10.0}), ('crt', {})]),  # the + inside brackets joins nothing
        ('m(at=[0.8, 0.9], on={"a": 1})', [('m', {'at': [0.8, 0.9], 'on': {'a': 1}})]),
        ('lws(train_classifier=True)', [('lws', {'train_classifier': True})]),
        ('lws(train_classifier=false)', [('lws', {'train_classifier': False})]),
        ("m(a='True', b=none)", [('m', {'a': 'True', 'b': None})]),
        ('m(a={[]: 1})', [('m', {'a': '{[]: 1}'})]),  # an expression that has no value
        ('./mine/toy_lt.py(imbalance_factor=50)', [('./mine/toy_lt.py', {'imbalance_factor': 50})]),
    ],
)
def test_specs(text: str, parts: list[tuple[str, dict[str, Any]]]) -> None:
    found = [(spec.name, spec.options) for spec in parse_specs(text)]
    assert found == parts
    types = [[type(value) for value in options.values()] for _, options in found]
    assert types == [[type(value) for value in options.values()] for _, options in parts]  # True is not 1


def test_specs_from_a_mapping() -> None:
    """As suites write them; an option without a prefix belongs to the first part."""
    specs = parse_specs({'type': 'ldam+drw', 'max_margin': 0.3, 'drw.start': 0.5})
    assert specs == (Spec('ldam', {'max_margin': 0.3}), Spec('drw', {'start': 0.5}))
    both = parse_specs({'type': 'nbn(scope=all)', 'normalize': 'bias'})
    assert both == (Spec('nbn', {'scope': 'all', 'normalize': 'bias'}),)
    with pytest.raises(UsageError, match=r"'dwr': did you mean drw\?"):
        parse_specs({'type': 'ldam+drw', 'dwr.start': 0.5})


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'a name is missing'),
        ('+', 'a name is missing'),
        ('nbn(normalize=weight', "cannot read 'nbn(normalize=weight'"),
        ('nbn(weight)', "cannot read 'weight': expected key=value"),
        ('nbn(normalize=)', "cannot read 'normalize=': expected key=value"),
        ('la loss', "cannot read 'la loss'"),
    ],
)
def test_unreadable_specs(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_specs(text)
    assert words in str(error.value)


names = st.from_regex(r'[a-z][a-z_0-9]{0,8}', fullmatch=True)
plain = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()


@given(st.lists(st.builds(Spec, names, st.dictionaries(names, plain | st.lists(plain, max_size=3))), min_size=1))
def test_specs_are_printed_as_they_are_read(specs: list[Spec]) -> None:
    assert parse_specs('+'.join(map(str, specs))) == tuple(specs)


@pytest.mark.parametrize('word', ['weight', 'none', 'true', '1', '0.5'])
def test_words_are_printed_as_they_are_read(word: str) -> None:
    """Suites turn mappings into text and back: the string '1' must not come back as a number."""
    assert parse_specs(str(Spec('m', {'option': word}))) == (Spec('m', {'option': word}),)


def test_assignments() -> None:
    assert parse_assignment('recipe.epochs=5') == ('recipe.epochs', 5)
    assert parse_assignment('profile=step') == ('profile', 'step')
    assert parse_assignment('path=a=b') == ('path', 'a=b')


@pytest.mark.parametrize(
    'value', ['...', 'https://...', '{1, 2}', '{1: 2}', "b'abc'", '1j', '1e999', '-1e999', '[1e999]', "{'a': (...,)}"]
)
def test_what_no_record_holds_is_text(value: str) -> None:
    assert parse_assignment(f'url={value}') == ('url', value)
    assert parse_specs(str(Spec('m', {'option': value}))) == (Spec('m', {'option': value}),)


def test_plain_data_are_read_at_any_depth() -> None:
    assert parse_assignment("x={'a': [1, (2.5, None)], 'b': True}") == ('x', {'a': [1, (2.5, None)], 'b': True})


# ------------------------------------------------------------------------------------------------ benchmarks


def test_a_benchmark_is_the_contents_of_its_file() -> None:
    toy = load_benchmark('toy_lt')
    assert (toy.name, toy.preset, toy.doc) == ('toy_lt', 'paper', 'A benchmark of the tests.')
    assert toy.recipe['optimizer'] == {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4}
    assert (toy.setting, dict(toy.overrides)) == ('paper', {})
    assert load_benchmark('toy_lt', preset='paper') == toy


def test_a_preset_changes_what_it_names_and_nothing_else() -> None:
    paper, quick = load_benchmark('toy_lt'), load_benchmark('toy_lt', preset='quick')
    assert (quick.recipe['epochs'], quick.backbone['depth']) == (30, 20)
    assert quick.recipe['optimizer'] == {**paper.recipe['optimizer'], 'lr': 0.05}
    assert {**quick.recipe, 'epochs': 200, 'optimizer': paper.recipe['optimizer']} == paper.recipe
    assert quick.data == paper.data
    assert quick.setting == 'quick'


def test_a_preset_that_names_a_type_replaces_the_whole_part() -> None:
    """The arguments of another type would not fit."""
    assert load_benchmark('toy_lt', preset='cosine').recipe['schedule'] == {'type': 'cosine', 'warmup_epochs': 1}


def test_overrides_by_full_path_or_last_name() -> None:
    by_path = load_benchmark('toy_lt', overrides={'recipe.optimizer.weight_decay': 5e-4, 'recipe.epochs': 20})
    by_name = load_benchmark('toy_lt', overrides={'weight_decay': 5e-4, 'epochs': 20})
    assert by_path == by_name
    assert by_path.recipe['optimizer']['weight_decay'] == 5e-4
    assert by_path.overrides == {'recipe.optimizer.weight_decay': 5e-4, 'recipe.epochs': 20}


def test_brackets_and_overrides_win_over_presets() -> None:
    toy = load_benchmark('toy_lt(depth=56)', preset='quick', overrides={'epochs': 12})
    assert (toy.recipe['epochs'], toy.backbone['depth'], toy.recipe['optimizer']['lr']) == (12, 56, 0.05)


@pytest.mark.parametrize(
    ('text', 'overrides'),
    [
        ('toy_lt', {'epochs': 10, 'recipe.epochs': 12}),
        ('toy_lt(epochs=10, recipe.epochs=12)', {}),
    ],
)
def test_two_values_of_one_entry_are_refused(text: str, overrides: dict[str, int]) -> None:
    with pytest.raises(UsageError, match='recipe.epochs of toy_lt is set twice, to 10 and to 12: give one'):
        load_benchmark(text, overrides=overrides)
    changed = load_benchmark('toy_lt(epochs=10)', overrides={'recipe.epochs': 12})
    assert changed == load_benchmark('toy_lt', overrides={'epochs': 12})


def test_setting_names_the_preset_and_every_change() -> None:
    """Rows with different settings never share a table; the imbalance factor has a column of its own."""
    assert load_benchmark('toy_lt(epochs=20)').setting == 'paper, epochs=20'
    assert load_benchmark('toy_lt', 'quick', {'weight_decay': 0, 'epochs': 20}).setting == (
        'quick, epochs=20, weight_decay=0'
    )
    assert load_benchmark('toy_lt(imbalance_factor=50)').setting == 'paper'
    assert load_benchmark('toy_lt(imbalance_factor=50)').data['imbalance_factor'] == 50
    assert load_benchmark('toy_lt(epochs=200)').setting == 'paper'  # says what the file says
    assert load_benchmark('toy_lt(profile=step)').setting == 'paper, profile=step'


@pytest.mark.parametrize('root', ['.', '/', 'birds/images', 'fish/images'])
def test_where_the_data_lie_is_no_setting(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LTBENCH_CONFIGS')
    folder = load_benchmark(f'folder_lt(root={root}, image_size=8)')
    assert (folder.setting, folder.data['root']) == ('paper, image_size=8', root)
    assert folder.overrides['data.root'] == root  # so that a record says where it was


def test_a_table_is_all_that_a_benchmark_computes_from() -> None:
    toy = load_benchmark('toy_lt')
    assert toy.table('a' * 64) == load_benchmark('toy_lt').table('a' * 64)
    others = [load_benchmark('toy_lt', overrides={key: 7}) for key in ('epochs', 'lr', 'depth')]
    assert len({toy.table('a' * 64), toy.table('b' * 64), *(other.table('a' * 64) for other in others)}) == 5


def test_a_version_is_refused_and_the_mend_is_said(configs: Path) -> None:
    (configs / 'benchmarks' / 'toy_lt.py').write_text(f'version = 2\n{BENCHMARK}')
    refused('benchmark toy_lt has an entry version; remove it: results are identified by their data', 'toy_lt')


def test_settings_differ_where_benchmarks_do() -> None:
    """Two options with one last name: the label must tell them apart."""
    one = load_benchmark('toy_lt', overrides={'recipe.optimizer.type': 'Adam'})
    other = load_benchmark('toy_lt', overrides={'recipe.schedule.type': 'cosine'})
    assert one.setting != other.setting


def test_loading_again_is_not_affected_by_overrides() -> None:
    load_benchmark('toy_lt', overrides={'lr': 9.0, 'at': [0.1]})
    assert load_benchmark('toy_lt').recipe['optimizer']['lr'] == 0.1
    assert load_benchmark('toy_lt').recipe['schedule']['at'] == [0.8, 0.9]


def test_resolved_is_a_copy_of_everything() -> None:
    toy = load_benchmark('toy_lt(epochs=20)')
    resolved = toy.resolved
    assert resolved['overrides'] == {'recipe.epochs': 20}
    assert set(resolved) == {'name', 'preset', 'data', 'backbone', 'recipe', 'overrides'}
    resolved['recipe']['optimizer']['lr'] = 9.0
    assert toy.recipe['optimizer']['lr'] == 0.1


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('toy_lr', "unknown benchmark 'toy_lr': did you mean toy_lt?"),
        ('toy_lt(epocs=3)', "unknown option of toy_lt 'epocs': did you mean epochs"),
        ('toy_lt(imbalence_factor=3)', 'did you mean imbalance_factor'),
        ('toy_lt(type=Adam)', "option 'type' of toy_lt is ambiguous: data.type, backbone.type, recipe.optimizer.type"),
        ('toy_lt+toy_lt', 'benchmarks cannot be joined by +'),
        ('nowhere/toy_lt.py', 'no such file: nowhere/toy_lt.py'),
    ],
)
def test_unknown_benchmarks_and_options(text: str, words: str) -> None:
    refused(words, text)


def test_a_preset_may_add_augmentation_that_the_recipe_does_not_name() -> None:
    augmentation = load_benchmark('toy_lt', preset='strong').recipe['augmentation']
    assert augmentation == {'crop_padding': 4, 'flip': True, 'policies': [{'type': 'Cutout', 'side': 16}]}
    refused("unknown entry of recipe.augmentation of toy_lt 'policy'", 'toy_lt', preset='wrong')


def test_unknown_presets() -> None:
    refused("unknown preset of toy_lt 'quik': did you mean quick?", 'toy_lt', preset='quik')
    refused('did you mean epochs?', 'toy_lt', preset='broken')  # a preset with a key that the recipe does not have


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('epochs', 'many'),
        ('epochs', True),
        ('epochs', 2.5),
        ('epochs', 0),
        ('batch_size', -1),
        ('devices', 129),
        ('at', 0.8),
        ('optimizer', 'SGD'),
        ('precision', 16),
        ('flip', 3),  # bool is an int to Python; an int is no bool to us
    ],
)
def test_values_of_another_kind_are_refused(option: str, value: Any) -> None:
    """They would fail an hour later, or mean something else."""
    refused(option, 'toy_lt', overrides={option: value})


def test_the_learning_rate_follows_the_batch_size_only_when_asked() -> None:
    kept = load_benchmark('toy_lt', overrides={'batch_size': 32})
    assert kept.recipe['optimizer']['lr'] == 0.1
    assert kept.notes == ['toy_lt: batch size 32, learning rate 0.1 as before; --scale-lr scales it along']
    scaled = load_benchmark('toy_lt', overrides={'batch_size': 32}, scale_lr=True)
    assert scaled.recipe['optimizer']['lr'] == 0.1 * 32 / 128
    assert scaled.notes == ['toy_lt: batch size 32, learning rate 0.025']
    assert scaled.setting == 'paper, batch_size=32, lr=0.025'
    preset = load_benchmark('toy_lt', 'quick', {'batch_size': 64}, scale_lr=True)
    assert preset.recipe['optimizer']['lr'] == 0.05 * 64 / 128  # the preset's, not the paper's
    for overrides, words in (({}, 'is not changed'), ({'batch_size': 64, 'lr': 0.3}, 'not both')):
        with pytest.raises(UsageError, match=words):
            load_benchmark('toy_lt', overrides=overrides, scale_lr=True)


def test_whole_and_fractional_numbers_are_one_kind() -> None:
    assert load_benchmark('toy_lt(imbalance_factor=12.5)').data['imbalance_factor'] == 12.5
    assert load_benchmark('toy_lt(lr=1)').recipe['optimizer']['lr'] == 1


def test_a_file_that_does_not_load_is_named_with_its_error(configs: Path) -> None:
    (configs / 'benchmarks' / 'bad.py').write_text('data = dict(', encoding='utf-8')
    (configs / 'benchmarks' / 'part.py').write_text("data = dict(type='DigitsLT')", encoding='utf-8')
    refused('bad.py does not load: ', 'bad')
    refused('benchmark part does not define backbone, recipe', 'part')


def test_a_file_may_be_given_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / 'elsewhere_lt.py'
    path.write_text(BENCHMARK, encoding='utf-8')
    elsewhere = load_benchmark(f'{path}(imbalance_factor=50)')
    assert (elsewhere.name, elsewhere.data['imbalance_factor']) == ('elsewhere_lt', 50)


def test_names_leave_out_bases(configs: Path) -> None:
    (configs / 'benchmarks' / '_base.py').write_text('', encoding='utf-8')
    assert config_names('benchmarks') == ['toy_lt']


def test_a_folder_without_configs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LTBENCH_CONFIGS', str(tmp_path / 'nothing'))
    with pytest.raises(UsageError, match='set LTBENCH_CONFIGS'):
        config_names('benchmarks')


# ------------------------------------------------------------------------------------------------ suites


def test_suite() -> None:
    tiny = load_suite('tiny')
    assert tiny.benchmarks == ('toy_lt', 'toy_lt(imbalance_factor=10)')
    assert list(map(str, tiny.methods)) == ['erm', 'nbn(normalize=weight)', 'ldam(max_margin=0.3)+drw(start=0.5)']
    assert (tiny.seeds, tiny.preset, tiny.doc) == ((0, 1), 'quick', 'A suite of the tests.')


def test_a_benchmark_of_a_suite_may_have_methods_and_seeds_of_its_own(configs: Path) -> None:
    (configs / 'suites' / 'mixed.py').write_text(
        "benchmarks = ['toy_lt', dict(benchmark='toy_lt(imbalance_factor=10)', methods=['nbn', 'erm'], seeds=[7])]\n"
        "methods = ['erm', 'ldam']\nseeds = [0, 1]\n",
        encoding='utf-8',
    )
    mixed = load_suite('mixed')
    whole, own = mixed.benchmarks
    assert [list(map(str, mixed.methods_on(text))) for text in (whole, own)] == [['erm', 'ldam'], ['nbn', 'erm']]
    assert [mixed.seeds_on(text) for text in (whole, own)] == [(0, 1), (7,)]
    assert list(map(str, mixed.all_methods)) == ['erm', 'ldam', 'nbn']
    assert mixed.number_of_runs == 2 * 2 + 2
    for entry, said in (
        ("benchmark='toy_lt', sedes=[7]", "'sedes': did you mean seeds"),
        ("benchmark='toy_lt', seeds=7", 'is a list with entries, got 7'),
        ("benchmark='toy_lt', seeds=[]", r'is a list with entries, got \[\]'),
        ('seeds=[7]', r"suite odd has an entry of benchmarks without benchmark: \{'seeds': \[7\]\}"),
    ):
        (configs / 'suites' / 'odd.py').write_text(
            f"benchmarks = [dict({entry})]\nmethods = ['erm']\nseeds = [0]\n", encoding='utf-8'
        )
        with pytest.raises(UsageError, match=said):
            load_suite('odd')


def test_a_benchmark_stands_once_in_a_suite(configs: Path) -> None:
    """Of two with other seeds, one would count."""
    (configs / 'suites' / 'twice.py').write_text(
        "benchmarks = ['toy_lt', dict(benchmark='toy_lt', seeds=[7])]\nmethods = ['erm']\nseeds = [0]\n",
        encoding='utf-8',
    )
    with pytest.raises(UsageError, match='suite twice names the benchmark toy_lt twice'):
        load_suite('twice')


def test_a_suite_counts_no_run_twice(configs: Path) -> None:
    (configs / 'suites' / 'again.py').write_text(
        "benchmarks = ['toy_lt', dict(benchmark='toy_lt(imbalance_factor=10)', methods=['nbn', 'nbn'], seeds=[7, 7])]\n"
        "methods = ['erm', 'ldam', dict(type='erm')]\nseeds = [0, 1, 0]\n",
        encoding='utf-8',
    )
    suite = load_suite('again')
    assert (list(map(str, suite.methods)), suite.seeds, suite.number_of_runs) == (['erm', 'ldam'], (0, 1), 5)


@pytest.mark.parametrize('seed', ['2**63', '10**5000', '-1', 'True', "'0'"])
def test_seeds_of_a_suite_are_those_of_records(configs: Path, seed: str) -> None:
    (configs / 'suites' / 'large.py').write_text(
        f"benchmarks = ['toy_lt']\nmethods = ['erm']\nseeds = [{seed}]\n", encoding='utf-8'
    )
    with pytest.raises(UsageError, match=r'seeds of suite large are whole numbers from 0 to 2\^63 - 1, got '):
        load_suite('large')


def test_a_method_in_place_of_a_suite_is_told_from_one(configs: Path) -> None:
    file = configs / 'mine.py'
    file.write_text(METHOD.format(name='mine', cls='Mine'), encoding='utf-8')
    with pytest.raises(UsageError) as error:
        load_suite(str(file))
    assert str(error.value) == f'{file} is not a config but a method: --plugin {file} -m NAME'


def test_no_reason_is_empty(configs: Path) -> None:
    file = configs / 'mine.py'
    file.write_text('from torch import nn\n\nbenchmarks = nn.Linear(3, 3)\n', encoding='utf-8')
    with pytest.raises(UsageError, match='does not load: RuntimeError: no reason given; a config cannot call'):
        load_suite(str(file))


def test_a_disk_that_takes_no_temporary_file_is_no_fault_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.EFBIG, 'File too large')

    monkeypatch.setattr(Config, 'fromfile', full)
    with pytest.raises(UsageError, match=r'tiny.py cannot be loaded, as no temporary file can be written: .*too large'):
        load_suite('tiny')


def test_nor_is_one_without_any_folder_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine then fails once more, and hides why."""

    def nowhere(_: Path) -> None:
        try:
            raise FileNotFoundError(errno.ENOENT, 'No usable temporary directory found')
        finally:
            raise UnboundLocalError('cannot access local variable')

    monkeypatch.setattr(Config, 'fromfile', nowhere)
    with pytest.raises(UsageError, match=r'as no temporary file can be written: .*No usable.*; set TMPDIR'):
        load_suite('tiny')


def test_unknown_and_incomplete_suites(configs: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown suite 'tinny': did you mean tiny\?"):
        load_suite('tinny')
    (configs / 'suites' / 'empty.py').write_text("benchmarks = ['toy_lt']\nmethods = []\nseeds = [0]", encoding='utf-8')
    with pytest.raises(UsageError, match=r'suite empty needs a list methods, got \[\]'):
        load_suite('empty')


def test_a_suite_declares_what_its_report_compares(configs: Path) -> None:
    suite, file = "benchmarks = ['toy_lt']\nmethods = ['erm']\nseeds = [0]\n", configs / 'suites' / 'compares.py'
    file.write_text(f"{suite}ablate = ['recipe.precision', 'nbn.scope']\n", encoding='utf-8')
    assert load_suite('compares').ablate == ('recipe.precision', 'nbn.scope')
    assert load_suite('tiny').ablate == ()
    file.write_text(f"{suite}ablate = 'nbn.scope'\n", encoding='utf-8')
    with pytest.raises(UsageError, match="ablate of suite compares is a list of options, got 'nbn.scope'"):
        load_suite('compares')


def test_every_shipped_config_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each benchmark with each of its presets, and each suite names benchmarks that there are."""
    monkeypatch.delenv('LTBENCH_CONFIGS')
    for name in config_names('benchmarks'):
        presets = read_config('benchmarks', name)[0].get('presets', {})
        for preset in ('paper', *presets):
            assert load_benchmark(name, preset).preset == preset
        assert len({str(load_benchmark(name, preset).recipe) for preset in ('paper', *presets)}) == 1 + len(presets)
    for name in config_names('suites'):
        suite = load_suite(name)
        for text in suite.benchmarks:
            load_benchmark(text, suite.preset)


def test_where_values_are_chosen_is_part_of_a_table() -> None:
    """Rows whose tau was chosen on other images, with models trained on less, are not to be ranked together."""
    told = (2, 'f' * 64, {'depth': 8}, {'epochs': 1})
    assert table_of(*told) == table_of(*told, has_validation=False) != table_of(*told, has_validation=True)


@pytest.mark.parametrize(
    ('text', 'root'),
    [
        ("folder_lt(root='x,y')", 'x,y'),
        ('folder_lt(root="a(b")', 'a(b'),
        ("folder_lt(root='a+b', image_size=8)", 'a+b'),
        ('folder_lt(root=2024)', '2024'),
        ("folder_lt(root=it's)", "it's"),
        ('folder_lt(root=~/birds)', '~/birds'),
    ],
)
def test_values_may_be_quoted_and_folders_called_anything(
    text: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('LTBENCH_CONFIGS', raising=False)
    assert load_benchmark(text).data['root'] == root


@pytest.mark.parametrize(('name', 'meant'), [('ERM', 'erm'), ('Balanced_Softmax', 'balanced_softmax'), ('NBN', 'nbn')])
def test_near_misses_do_not_mind_the_case(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f'did you mean {meant}'):
        raise unknown('method', name, METHODS.module_dict)


@pytest.mark.parametrize(
    ('typed', 'seeds'),
    [
        (['0'], (0,)), (['0-4'], (0, 1, 2, 3, 4)), (['3,1-2,1'], (3, 1, 2)), ([' 7 , 8 - 9'], (7, 8, 9)),
        (['0', '1-2', '0'], (0, 1, 2)), ([], ()),
    ],
)  # fmt: skip
def test_seeds_may_be_ranges(typed: list[str], seeds: tuple[int, ...]) -> None:
    assert parse_seeds(typed) == seeds


@pytest.mark.parametrize('text', ['', '-1', '4-0', '1.5', 'a', '0-', '0--3', '0-99999999999', '\u0663', '0,,1'])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match='cannot read seeds'):
        parse_seeds([text])


def test_seeds_end_where_records_do() -> None:
    largest = 2**63 - 1
    assert parse_seeds([f'{largest - 1}-{largest}']) == (largest - 1, largest)
    for text in (str(largest + 1), f'{largest}-{largest + 1}', '9' * 5000, f'0-{"9" * 5000}'):
        with pytest.raises(UsageError, match=r'cannot read seeds .{1,70}: expected whole numbers from 0 to 2\^63 - 1'):
            parse_seeds([text])
