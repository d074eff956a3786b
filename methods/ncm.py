"""Nearest class mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.posthoc import Outputs, PostHoc, features_of
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class NearestClassMean(PostHoc):
    """Minus the squared distance (or the cosine) to the mean training feature of each class.

    Args:
        num_classes: C.
        distance: ``'cl2n'`` (features centred by the mean of all and scaled to unit length, then Euclidean),
            ``'l2n'`` (scaled, then Euclidean) or ``'cosine'``.
    """

    def __init__(self, num_classes: int, distance: str = 'cl2n') -> None:
        self.num_classes, self.distance = num_classes, distance

    def logits(self, outputs: Outputs) -> Tensor:
        """Similarities ``[N, C]``."""
        assert outputs.train is not None  # noqa: S101 - narrows the type
        assert outputs.train.labels is not None  # noqa: S101 - narrows the type
        train = features_of(outputs.train)
        center = train.mean(dim=0) if self.distance == 'cl2n' else torch.zeros_like(train[0])
        images, train = functional.normalize(features_of(outputs) - center), functional.normalize(train - center)
        one_hot = functional.one_hot(outputs.train.labels, self.num_classes).float()
        means = one_hot.T @ train / one_hot.sum(dim=0)[:, None]
        if self.distance == 'cosine':
            return images @ functional.normalize(means).T
        return -(torch.cdist(images, means) ** 2)


@METHODS.register_module(name='ncm')
class NCM(Method):
    """Classify by the nearest mean feature of a class, in place of the trained classifier.

    Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020 (section 4.1),
    https://arxiv.org/abs/1910.09217; official code facebookresearch/classifier-balancing@f162ade.
    Differs: in ``'cosine'`` the means are scaled to unit length too. Logits are similarities without a trained scale,
    so NLL and ECE of this method have little meaning.
    """

    title = 'NCM'
    family = 'two-stage'
    distance = Option('cl2n', choices=('cl2n', 'l2n', 'cosine'), help='how features are compared')

    def apply(self, plan: Plan) -> Plan:
        """Append the post-hoc step."""
        return plan.posthoc(on='features', type='NearestClassMean', distance=self.distance)
