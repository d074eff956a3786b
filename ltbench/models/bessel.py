"""Modified Bessel functions of large order, as the normalisers of von Mises-Fisher distributions need them."""

from __future__ import annotations

import torch
from torch import Tensor


def log_bessel(kappa: Tensor, size: int) -> Tensor:
    """``log(I_v(kappa) / kappa ** v)`` for ``v = size / 2 - 1``, up to a constant that depends on ``size``; float64.

    The uniform expansion for large orders to the fourth term (NIST DLMF 10.41.3), stable for every kappa from 0 on;
    its error is below 1e-9 for a size of 64 or more, 1e-6 for 32.
    """
    order = size / 2 - 1
    root = (1 + (kappa.double() / order) ** 2).sqrt()
    t, t2 = 1 / root, 1 / root**2
    terms = (
        (3 - 5 * t2) / 24,
        (81 - 462 * t2 + 385 * t2**2) / 1152,
        (30375 - 369603 * t2 + 765765 * t2**2 - 425425 * t2**3) / 414720,
        (4465125 - 94121676 * t2 + 349922430 * t2**2 - 446185740 * t2**3 + 185910725 * t2**4) / 39813120,
    )
    series = torch.stack([(t / order) ** (number + 1) * term for number, term in enumerate(terms)]).sum(dim=0)
    return order * (root - (order * (1 + root)).log()) - root.log() / 2 + torch.log1p(series)
