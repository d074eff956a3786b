"""Data sets, long-tail profiles, samplers and batched augmentation."""

from ltbench.data.base import FileSplit, LongTailData, Split, load_data

__all__ = ['FileSplit', 'LongTailData', 'Split', 'load_data']
