"""Data sets, long-tail profiles, samplers and batched augmentation."""

from ltbench.data import cifar, digits, fashion_mnist, folder, inaturalist, listed, noise, samplers
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
    'samplers',
]
