"""A stage: one unit of work, named by what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ltbench.errors import given
from ltbench.fingerprint import PROTOCOL_VERSION, fingerprint, without_location
from ltbench.source import foreign_code

PARENTS = ('needs', 'starts_from', 'tuned_on', 'teacher')
"""Fields of a stage that are stages."""


@dataclass(frozen=True)
class Stage:
    """One unit of work with a fully resolved config; its fingerprint names its artifact.

    A ``train`` stage stands for the state of a network after its last epoch. Its ``history`` says what was in force
    until which epoch, so that two runs which differ only from epoch 160 on have the same stage up to there; whether it
    is trained from epoch 0 or from an earlier state of the same history changes nothing in the result, so
    ``starts_from`` is not part of the fingerprint. The other kinds compute on the artifact of the stage they need; one
    that chooses a value on validation images does so on the stage it is ``tuned_on``. The ``teacher`` of a ``train``
    stage is named by its fingerprint in the config, as ``teach``.
    """

    kind: str
    config: Mapping[str, Any]
    needs: Stage | None = None
    starts_from: Stage | None = None
    tuned_on: Stage | None = None
    teacher: Stage | None = None

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits."""
        return fingerprint(
            {
                'protocol': PROTOCOL_VERSION,
                'kind': self.kind,
                'config': relevant(self.config),
                'code': self.code,
                'needs': self.needs.fingerprint if self.needs else None,
                'tuned_on': self.tuned_on.fingerprint if self.tuned_on else None,
            }
        )

    @cached_property
    def code(self) -> dict[str, str]:
        """Hashes of the code of its parts outside the package, see :func:`ltbench.source.foreign_code`."""
        return foreign_code(self.config)

    @property
    def parents(self) -> list[Stage]:
        """The stages whose artifacts must be there before this one can begin."""
        named = (self.needs, self.starts_from, self.tuned_on, self.teacher)  # no dict, as there are thousands of stages
        return [stage for stage in named if stage is not None]

    def named_parents(self) -> dict[str, Stage | None]:
        """Those of :data:`PARENTS`."""
        return {name: getattr(self, name) for name in PARENTS}

    @property
    def end(self) -> int:
        """A ``train`` stage's last epoch (exclusive)."""
        return self.config['history'][-1]['until']

    @property
    def begin(self) -> int:
        """The epoch at which a ``train`` stage starts."""
        return self.starts_from.end if self.starts_from else 0

    @property
    def devices(self) -> int:
        """Processes that share the work: those of the recipe for a ``train`` stage, one for the others."""
        return self.config['recipe']['devices'] if self.kind == 'train' else 1

    @property
    def is_complete(self) -> bool:
        """Whether a ``train`` stage reaches the recipe's last epoch (only then is it evaluated)."""
        return self.kind != 'train' or self.end == self.config['recipe']['epochs']

    def until(self, end: int) -> Stage:
        """A ``train`` stage that ends at an earlier epoch, after its start and in its last segment."""
        *before, last = self.config['history']
        earlier = replace(self, config={**self.config, 'history': [*before, {**last, 'until': end}]})
        earlier.__dict__['code'] = self.code  # the parts are the same, and computing it looks at all of them
        return earlier

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the way back."""
        return {
            'kind': self.kind,
            'config': self.config,
            **{name: parent.to_json() if parent else None for name, parent in self.named_parents().items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stage:
        """Read what :meth:`to_json` wrote."""
        parents = {name: cls.from_json(data[name]) if data[name] else None for name in PARENTS}
        return cls(data['kind'], data['config'], **parents)

    def known_as(self, fingerprint: str, code: dict[str, str]) -> Stage:
        """Itself, with values that were computed before, so that the code of its parts need not be read again."""
        self.__dict__.update(fingerprint=fingerprint, code=code)
        return self


IDENTITY_OF_DATA = ('type', 'fingerprint', 'holdout')
"""Entries of a ``data`` section that count: the code that reads the data, their contents, and the held-out share.

The other entries say where the data are and how they were chosen, which the fingerprint of their contents covers.
"""


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a stage's config that can change its result.

    An empty slot is left out, so that a new slot in the software changes no earlier fingerprint.
    """
    kept = {key: value for key, value in config.items() if value is not None}
    if 'data' in kept:
        kept['data'] = {key: kept['data'][key] for key in IDENTITY_OF_DATA if key in kept['data']}
    if 'backbone' in kept:
        kept['backbone'] = without_location(kept['backbone'])
    if 'history' in kept:
        kept['history'] = [{k: v for k, v in part.items() if v is not None} for part in kept['history']]
    return kept


def train_stage_of(stage: Stage) -> Stage:
    """The ``train`` stage at the root of a stage's parents."""
    while stage.kind != 'train':
        stage = given(stage.needs)
    return stage
