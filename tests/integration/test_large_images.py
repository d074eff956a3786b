"""ImageNet-LT, iNaturalist 2018 and Places-LT end to end, on small trees in the official layouts."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.benchmark import load_benchmark
from ltbench.data import large as files
from ltbench.data import load_data
from ltbench.data.batches import BatchPreprocessor, Share, train_loader
from ltbench.data.crops import PreparedImages, large_dataset, prepare_all
from ltbench.data.download import RemoteFile
from ltbench.data.inaturalist import INaturalist2018
from ltbench.data.large import FileDataset, SeededSampler
from ltbench.data.listed import ImageNetLT
from ltbench.data.samplers import ClassAware, InstanceBalanced, Paired
from ltbench.errors import DataError, MethodWarning, UsageError
from ltbench.method import make_plan
from ltbench.verbs.data import prepare_data

AUGMENTATION = {
    'random_resized_crop': 32,
    'flip': True,
    'color_jitter': [0.4, 0.4, 0.4, 0.0],
    'resize': 40,
    'center_crop': 32,
}
COUNTS = (12, 5, 3)


def image(path, colour, size=(60, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(str(path)) + colour)
    pixels = random.integers(0, 256, (size[1], size[0], 3)).clip(colour, None)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)


def lists(root, names: dict[str, str], style):
    """List files and images: ``style(part, label, number)`` is a path under the root."""
    for part, name in names.items():
        lines = []
        for label in range(3):
            for number in range(COUNTS[label] if part == 'train' else 2):
                path = style(part, label, number)
                image(root / path, 80 * label)
                lines.append(f'{path} {label}')
        (root / name).write_text('\n'.join(lines) + '\n')


@pytest.fixture
def imagenet(tmp_path):
    def style(part, label, number):
        folder = 'val' if part == 'test' else 'train'
        return f'{folder}/n0{label}/{part}_{number}.JPEG'

    names = {part: file.name for part, file in ImageNetLT.lists.items()}
    lists(tmp_path / 'imagenet_lt', names, style)
    return tmp_path / 'imagenet_lt'


SMALL = [
    '-o', 'verify=False', '-o', 'name=resnet10', '-o', 'epochs=2', '-o', 'batch_size=8', '-o', 'optimizer.lr=0.01',
    '-o', 'random_resized_crop=32', '-o', 'resize=40', '-o', 'center_crop=32',
]  # fmt: skip


@pytest.mark.slow
def test_imagenet_lt_trains_selects_tests_and_records(imagenet, ltbench, sandbox):
    printed = ltbench(
        'run',
        '-b',
        'imagenet_lt',
        '-m',
        'erm',
        '-m',
        'tau_norm',
        '-m',
        'crt(epochs=1)',
        *SMALL,
        LTBENCH_DATA=str(imagenet.parent),
    )
    assert 'imagenet_lt / tau_norm / seed 0  top-1' in printed
    records = [json.loads(path.read_text()) for path in sandbox.glob('results/imagenet_lt_runs/records/*.json')]
    by_method = {record['method']: record for record in records}
    assert by_method['erm']['class_counts'] == [12, 5, 3]
    assert by_method['erm']['class_names'] == ['n00', 'n01', 'n02']
    assert by_method['erm']['metrics']['test_images'] == [2, 2, 2]
    # the official validation list serves to choose tau: no second model is trained for that
    assert [stage['kind'] for stage in by_method['tau_norm']['stages']] == ['train', 'features', 'posthoc']
    assert 0 <= by_method['tau_norm']['chosen']['tau'] <= 2
    assert list(sandbox.glob('store/artifacts/*/*/validation.npz'))


@pytest.mark.slow
@pytest.mark.parametrize(('style', 'more'), [('train/airfield', ()), ('data_256/a/airfield', ('-o', 'prepared=40'))])
def test_places_lt_in_both_styles(tmp_path, ltbench, style, more):
    root = tmp_path / 'places_lt'
    names = {'train': 'Places_LT_train.txt', 'validation': 'Places_LT_val.txt', 'test': 'Places_LT_test.txt'}
    lists(root, names, lambda part, label, number: f'{style}{label}/{part}{number}.jpg')
    printed = ltbench('run', '-b', 'places_lt', *SMALL, '-o', 'epochs=1', *more, LTBENCH_DATA=str(tmp_path))
    assert 'places_lt / erm / seed 0  top-1' in printed


def test_inaturalist_from_the_lists_and_from_the_json_is_the_same(tmp_path):
    root = tmp_path / 'inat2018'
    names = {part: file.name for part, file in INaturalist2018.lists.items()}
    lists(root, names, lambda part, label, number: f'train_val2018/Plantae/{label}/{part}{number}.jpg')
    from_lists = INaturalist2018(root=str(root), verify=False)
    for part, json_name in INaturalist2018.json_files.items():
        lines = (root / names[part]).read_text().splitlines()
        images = [{'id': 1000 + number, 'file_name': line.split(' ')[0]} for number, line in enumerate(lines)]
        annotations = [
            {'id': 7 * number, 'image_id': 1000 + number, 'category_id': int(line.split(' ')[1])}
            for number, line in enumerate(lines)
        ]
        (root / json_name).write_text(json.dumps({'images': images[::-1], 'annotations': annotations}))
        (root / names[part]).unlink()
    assert INaturalist2018(root=str(root), verify=False).fingerprint == from_lists.fingerprint
    assert from_lists.class_counts == list(COUNTS)


def test_flat_ilsvrc_validation_images_are_found(imagenet):
    before = ImageNetLT(root=str(imagenet), verify=False)
    for index in range(len(before.test)):
        path = before.test.path(index)
        path.rename(imagenet / 'val' / f'{path.parent.name}_{path.name}')
    text = (imagenet / 'ImageNet_LT_test.txt').read_text()
    for label in range(3):
        text = text.replace(f'n0{label}/test', f'n0{label}/n0{label}_test')
    (imagenet / 'ImageNet_LT_test.txt').write_text(text)
    after = ImageNetLT(root=str(imagenet), verify=False)
    assert after.test.path(0).is_file()
    assert after.test.labels.tolist() == before.test.labels.tolist()


def test_lists_that_are_not_the_published_ones_are_refused(imagenet, monkeypatch):
    with pytest.raises(DataError, match='is not the published list: .* expected 4658674 bytes with efdbdad4'):
        ImageNetLT(root=str(imagenet))
    with pytest.raises(
        DataError, match='ImageNet_LT_train.txt is missing; `ltbench data get imagenet_lt` says what to put where'
    ):
        ImageNetLT(root=str(imagenet / 'train'))
    (imagenet / 'ImageNet_LT_val.txt').write_text('train/n00/train_0.JPEG zero\n')
    with pytest.raises(DataError, match='ImageNet_LT_val.txt, line 1: expected "path label"'):
        ImageNetLT(root=str(imagenet), verify=False)


@pytest.mark.slow
def test_one_corrupt_jpeg_names_itself(imagenet, ltbench, sandbox):
    path = imagenet / 'train' / 'n01' / 'train_2.JPEG'
    path.write_bytes(path.read_bytes()[:200])
    printed = ltbench('run', '-b', 'imagenet_lt', *SMALL, LTBENCH_DATA=str(imagenet.parent), code=1)
    assert f'{path} cannot be decoded' in printed


def test_draws_hang_on_seed_and_epoch_not_on_workers(imagenet):
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})

    def epoch(number, workers, seed=3):
        sampler = InstanceBalanced(data.train.labels, seed=seed)
        sampler.set_epoch(number)
        loader = train_loader(data.train, sampler, 6, AUGMENTATION, workers)
        return torch.cat([batch['images'] for batch in loader])

    state = torch.get_rng_state()
    first = epoch(0, workers=0)
    assert torch.equal(torch.get_rng_state(), state)  # the process's own generator is left alone
    assert torch.equal(first, epoch(0, workers=2))
    assert not torch.equal(first, epoch(1, workers=0))
    assert not torch.equal(first, epoch(0, workers=0, seed=4))


def test_processes_that_share_batches_decode_what_one_would(imagenet):
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})
    sampler = InstanceBalanced(data.train.labels, seed=3)
    alone = list(train_loader(data.train, sampler, 6, AUGMENTATION))
    for workers in (0, 1):
        parts = [list(train_loader(data.train, sampler, 6, AUGMENTATION, workers, Share(rank, 2))) for rank in (0, 1)]
        for whole, *both in zip(alone, *parts, strict=True):
            for rank, part in enumerate(both):
                assert part['whole'] == len(whole['labels'])
                assert torch.equal(part['images'], whole['images'][rank::2])
                assert torch.equal(part['labels'], whole['labels'][rank::2])


def test_persistent_workers_draw_anew_every_epoch(imagenet):
    """With workers that live on, the sampler alone tells the epoch; a frozen stream is a known trap."""
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})
    sampler = InstanceBalanced(data.train.labels, seed=0)
    loader = train_loader(data.train, sampler, 20, AUGMENTATION, workers=1)
    epochs = []
    for number in (0, 1, 0):
        loader.sampler.set_epoch(number)
        epochs.append(torch.cat([batch['images'] for batch in loader]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize('workers', [0, 1])
def test_prepared_images_are_decoded_once_and_seen_by_every_worker_alike(imagenet, workers, monkeypatch):
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})
    augmentation = {**AUGMENTATION, 'prepared': 40}
    prepare_all(data, augmentation)
    monkeypatch.setattr(files, 'decode', None)  # nothing is decoded from here on
    sampler = InstanceBalanced(data.train.labels, seed=3)
    seen = [torch.cat([batch['images'] for batch in train_loader(data.train, sampler, 6, augmentation, workers)])]
    one_by_one = large_dataset(data.train, augmentation, True)
    seen += [one_by_one.__getitems__([item])['images'] for item in SeededSampler(sampler)]
    assert torch.equal(seen[0], torch.cat(seen[1:]))


def test_test_images_are_the_same_pixels_prepared_or_decoded(imagenet):
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})
    ways = [large_dataset(data.test, {**AUGMENTATION, 'prepared': side}, training=False) for side in (None, 40, 36)]
    assert [isinstance(way, PreparedImages) for way in ways] == [False, True, False]  # of another side they are decoded
    decoded, *others = (way.__getitems__([(index, 0) for index in range(6)])['images'] for way in ways)
    assert all(torch.equal(decoded, other) for other in others)


@pytest.mark.parametrize('workers', [0, 1])
def test_views_and_partners_of_large_images(imagenet, workers):
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})
    alone = InstanceBalanced(data.train.labels, seed=3)
    pairs = Paired(InstanceBalanced(data.train.labels, seed=3), ClassAware(data.train.labels, seed=4))
    views = ['plain', 'contrastive', 'strong']
    plain = next(iter(train_loader(data.train, alone, 6, AUGMENTATION, workers)))
    batch = next(iter(train_loader(data.train, pairs, 6, AUGMENTATION, workers, views=views)))
    assert torch.equal(batch['images'], plain['images'])  # the first view draws as it would alone
    assert torch.equal(batch['labels'], plain['labels'])
    assert len(batch['others']) == 2
    assert len(batch['partners']) == 3
    seen = [batch['images'], *batch['others'], *batch['partners']]
    assert {tuple(view.shape) for view in seen} == {(6, 32, 32, 3)}
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))
    partner = [index for _, index in pairs][:6]
    assert batch['partner_labels'].tolist() == data.train.labels[partner].tolist()
    normal = BatchPreprocessor(data, AUGMENTATION, 0, views=views)(dict(batch), training=True)
    assert {name: value.shape for name, value in normal.items() if isinstance(value, torch.Tensor)} == {
        'images': (6, 3, 32, 32), 'labels': (6,), 'partner_labels': (6,),
    }  # fmt: skip
    assert [view.shape for view in (*normal['others'], *normal['partners'])] == [(6, 3, 32, 32)] * 5


def test_the_verb_prepares_all_parts_once(imagenet, any_lists, monkeypatch, capsys):
    monkeypatch.setenv('LTBENCH_DATA', str(imagenet.parent))
    for _ in range(2):
        prepare_data('imagenet_lt(verify=False)', side=40)
        printed = capsys.readouterr()
        assert printed.out.splitlines() == [
            'whole    20 training images of shorter side 40, 120.0 kB',
            'whole    6 validation images of shorter side 40, 36.0 kB',
            'whole    6 test images of shorter side 40, 36.0 kB',
        ]  # of 50 x 40 pixels
        assert "ltbench run -b 'imagenet_lt(verify=False)' -o prepared=40" in printed.err
    assert len(list((imagenet / '.ltbench-cache').rglob('*.images'))) == 3
    with pytest.raises(UsageError, match='the images of digits_lt are held in memory: there is nothing to prepare'):
        prepare_data('digits_lt')


def test_prepared_images_are_part_of_the_setting():
    plain, small = load_benchmark('imagenet_lt'), load_benchmark('imagenet_lt(prepared=320)')
    assert small.setting == 'paper, prepared=320'
    stages = [make_plan('erm', benchmark, '', 0).stages()[-1] for benchmark in (plain, small)]
    assert stages[0].fingerprint != stages[1].fingerprint


def test_evaluation_resizes_the_shorter_side_and_cuts_the_centre(imagenet):
    data = load_data({'type': 'ImageNetLT', 'root': str(imagenet), 'verify': False})
    batch = FileDataset(data.test, AUGMENTATION, training=False).__getitems__([(0, 0)])
    pixels = Image.open(data.test.path(0)).resize((50, 40), Image.Resampling.BILINEAR).crop((9, 4, 41, 36))
    assert np.array_equal(batch['images'][0].numpy(), np.asarray(pixels))
    assert batch['labels'].tolist() == [0]


def test_groups_other_than_published_are_said(imagenet, monkeypatch):
    monkeypatch.setattr(ImageNetLT, 'classes', 3)
    monkeypatch.setattr(ImageNetLT, 'train_images', 20)
    monkeypatch.setattr(ImageNetLT, 'lists', {part: type(f)(f.name) for part, f in ImageNetLT.lists.items()})
    with pytest.warns(
        MethodWarning, match=r'many / medium / few are \(0, 0, 3\), the literature says \(385, 479, 136\)'
    ):
        ImageNetLT(root=str(imagenet))


@pytest.fixture
def any_lists(monkeypatch):
    """Lists of any length and contents are taken for the published ones."""
    for data_class in (ImageNetLT, INaturalist2018):
        unknown = {part: type(file)(file.name) for part, file in data_class.lists.items()}
        monkeypatch.setattr(data_class, 'lists', unknown)


def states(data_class):
    return {status.name: status.state for status in data_class.check()}


def test_check_counts_images_and_names_the_first_that_are_missing(imagenet, any_lists, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(imagenet.parent))
    assert set(states(ImageNetLT).values()) == {'whole'}
    assert [status.state for status in ImageNetLT.glance()] == ['whole'] * 3 + ['images not counted']
    for number in range(2, 7):
        (imagenet / 'train' / 'n00' / f'train_{number}.JPEG').unlink()
    shutil.rmtree(imagenet / 'val' / 'n02')
    details = {status.name: status.detail for status in ImageNetLT.check() if status.state == 'missing'}
    assert details.keys() == {'images of ImageNet_LT_train.txt', 'images of ImageNet_LT_test.txt'}
    shown = ', '.join(f'{imagenet}/train/n00/train_{number}.JPEG' for number in (2, 3, 4))
    assert details['images of ImageNet_LT_train.txt'] == f'15 of 20 are there, 5 are missing: {shown} and 2 more'
    assert details['images of ImageNet_LT_test.txt'].startswith('4 of 6 are there, 2 are missing: ')
    (imagenet / 'ImageNet_LT_val.txt').unlink()
    assert states(ImageNetLT)['images of ImageNet_LT_val.txt'] == 'missing'
    assert {status.state for status in ImageNetLT.glance()} == {'whole', 'missing'}


def test_check_counts_flat_validation_images_too(imagenet, any_lists, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(imagenet.parent))
    for path in imagenet.glob('val/*/*'):
        path.rename(imagenet / 'val' / path.name)  # labels share names here: two files are left
    details = {status.name: status for status in ImageNetLT.check()}
    assert details['images of ImageNet_LT_test.txt'].state == 'whole'


def test_a_list_of_another_length_is_damaged(imagenet, any_lists, monkeypatch):
    monkeypatch.setenv('LTBENCH_DATA', str(imagenet.parent))
    longer = dataclasses.replace(ImageNetLT.lists['validation'], images=7)
    monkeypatch.setattr(ImageNetLT, 'lists', {**ImageNetLT.lists, 'validation': longer})
    assert states(ImageNetLT)['ImageNet_LT_val.txt'] == 'damaged'
    with pytest.raises(DataError, match='ImageNet_LT_val.txt is not the published list: it lists 6 images, expected 7'):
        ImageNetLT(root=str(imagenet))


@pytest.mark.unpacks
def test_inaturalist_is_downloaded_annotations_first(tmp_path, any_lists, monkeypatch, file_server):
    monkeypatch.setenv('LTBENCH_DATA', str(tmp_path))
    source, root = tmp_path / 'source', tmp_path / 'inat2018'
    for part, count in (('train', 3), ('val', 2)):
        images = [{'id': n, 'file_name': f'train_val2018/Plantae/{n}/{part}.jpg'} for n in range(count)]
        for row in images:
            image(source / row['file_name'], 0)
        annotations = [{'id': n, 'image_id': n, 'category_id': n} for n in range(count)]
        (source / f'{part}2018.json').write_text(json.dumps({'images': images, 'annotations': annotations}))
    published = {}
    for name in ('train2018.json', 'val2018.json', 'train_val2018'):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode='w:gz') as archive:
            archive.add(source / name, name)
        file_server.files[f'{name}.tar.gz'] = packed.getvalue()
        md5 = hashlib.md5(packed.getvalue()).hexdigest()
        published[name] = RemoteFile(f'{file_server.url}/{name}.tar.gz', md5, folder='inat2018')
    monkeypatch.setattr(INaturalist2018, 'photographs', published.pop('train_val2018'))
    monkeypatch.setattr(INaturalist2018, 'annotations', published)
    INaturalist2018.get()
    assert [name for name, _ in file_server.asked] == [
        'train2018.json.tar.gz',
        'val2018.json.tar.gz',
        'train_val2018.tar.gz',
    ]
    assert sorted(path.name for path in root.iterdir()) == ['train2018.json', 'train_val2018', 'val2018.json']
    assert set(states(INaturalist2018).values()) == {'whole'}
    assert len(INaturalist2018(verify=False).train) == 3
    # an image that was lost costs the images' archive once more, and nothing else
    (root / 'train_val2018' / 'Plantae' / '1' / 'val.jpg').unlink()
    INaturalist2018.get()
    assert [name for name, _ in file_server.asked][3:] == ['train_val2018.tar.gz']
    (root / 'train2018.json').write_text('{"images": [')
    assert states(INaturalist2018)['train2018.json'] == 'damaged'
    INaturalist2018.get()
    assert [name for name, _ in file_server.asked][4:] == ['train2018.json.tar.gz']


def test_get_says_what_to_put_where(imagenet, any_lists, monkeypatch, capsys):
    monkeypatch.setenv('LTBENCH_DATA', str(imagenet.parent))
    ImageNetLT.get()
    assert capsys.readouterr().out == ''
    (imagenet / 'train' / 'n00' / 'train_0.JPEG').unlink()
    with pytest.raises(DataError, match=f'not complete in {imagenet}: .* then run `ltbench data check imagenet_lt`'):
        ImageNetLT.get()
    said = capsys.readouterr().out
    assert f'What to put into {imagenet}:' in said
    assert '147,897,477,120 bytes, md5 1d675b47d978889d74fa0da5fadfb00e' in said
    assert f'19 of 20 are there, 1 are missing: {imagenet}/train/n00/train_0.JPEG' in said
