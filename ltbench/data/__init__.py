"""Data sets, long-tail profiles, samplers and batched augmentation."""

from ltbench.data import (
    cifar,
    digits,
    fashion_mnist,
    folder,
    inaturalist,
    listed,
    noise,
    policies,
    samplers,
    sim_augment,
)
from ltbench.data.base import FileSplit, LongTailData, Split, load_data

__all__ = [
    'FileSplit',
    'LongTailData',
    'Split',
    'cifar',
    'digits',
    'fashion_mnist',
    'folder',
    'inaturalist',
    'listed',
    'load_data',
    'noise',
    'policies',
    'samplers',
    'sim_augment',
]
