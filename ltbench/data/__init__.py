"""Data sets, long-tail profiles, samplers and batched augmentation."""

from ltbench.data import digits, fashion_mnist, samplers
from ltbench.data.base import LongTailData, Split, load_data

__all__ = ['LongTailData', 'Split', 'digits', 'fashion_mnist', 'load_data', 'samplers']
