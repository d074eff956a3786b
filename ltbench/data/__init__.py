"""Data sets, long-tail profiles, samplers and batched augmentation."""

from ltbench.data import cifar, digits, fashion_mnist, folder, samplers
from ltbench.data.base import LongTailData, Split, load_data

__all__ = ['LongTailData', 'Split', 'cifar', 'digits', 'fashion_mnist', 'folder', 'load_data', 'samplers']
