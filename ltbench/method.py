"""The interface of a method: it takes a plan and returns a changed copy. This is the file to read before adding one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from ltbench.benchmark import Benchmark
from ltbench.errors import UsageError, unknown
from ltbench.plan import Plan
from ltbench.recipe import shortened
from ltbench.registry import METHODS, lookup
from ltbench.spec import Spec, Specs, parse_specs

__all__ = ['Method', 'Option', 'Plan', 'build_method', 'make_plan', 'probes_of']


class Option:
    """One hyper-parameter of a method, declared in its class body.

    Args:
        default: The value if no other is given; its type is the option's type.
        between: Lowest and highest allowed value, both included.
        choices: The allowed values.
        words: Words allowed in place of a number.
        on: Other defaults by benchmark: ``{'inat2018': 0.3, 'cifar10_lt(imbalance_factor=50)': 0.2}``.
        help: One line on what it does.
    """

    def __init__(
        self,
        default: Any,
        *,
        between: tuple[float, float] | None = None,
        choices: tuple[Any, ...] | None = None,
        words: tuple[str, ...] = (),
        on: Mapping[str, Any] | None = None,
        help: str = '',
    ) -> None:
        self.default, self.between, self.choices, self.words = default, between, choices, words
        self.on, self.help = on or {}, help

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, method: Method | None, owner: type) -> Any:
        return self if method is None else method.values[self.name]

    def default_on(self, benchmark: Benchmark) -> Any:
        """The default for one benchmark."""
        factor = benchmark.data.get('imbalance_factor')
        exact = f'{benchmark.name}(imbalance_factor={factor:g})' if factor is not None else benchmark.name
        for key in (exact, benchmark.name):
            if key in self.on:
                return self.on[key]
        return self.default

    def check(self, value: Any, owner: str) -> Any:
        """``value`` in the option's type.

        Raises:
            UsageError: If it has another type, is out of range or not among the choices.
        """
        where = f'option {self.name} of {owner}'
        if self.choices is not None:
            if value not in self.choices:
                raise unknown(f'value for {where}', str(value), map(str, self.choices))
            return value
        if isinstance(value, str) and value in self.words:
            return value
        kind = float if self.words else type(self.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if self.default is not None and type(value) is not kind:
            words = ''.join(f' or {word!r}' for word in self.words)
            raise UsageError(f'{where} takes a {kind.__name__}{words}, got {value!r}')
        if self.between is not None and not self.between[0] <= value <= self.between[1]:
            raise UsageError(f'{where} lies between {self.between[0]} and {self.between[1]}, got {value!r}')
        return value


# read once per class: a grid of thousands of runs needs them for each run
_DECLARED: WeakKeyDictionary[type, dict[str, Option]] = WeakKeyDictionary()


class Method:
    """Base class of all methods: declared options, and one function from plan to plan.

    A method declares, as configs of registered parts, how the plain plan of a benchmark changes. It never trains, so
    its plan can be fingerprinted, stored and rebuilt; the engine builds the parts and gives each what only the data
    provide (``class_counts``).

    Args:
        benchmark: The benchmark it will be applied to; decides the options' defaults.
        options: Values for the declared options.

    Attributes:
        probes: Names of the probes that measure the networks of its runs, see :class:`ltbench.probes.Probe`; they do
            not affect training.
        title: Its name in figures, as papers write it; '' is the name that it is registered under, spelled out.
        family: The group of methods that it belongs to, which has its own colour and shape in figures and on the page;
            see :data:`ltbench.report.families.FAMILIES`. '' or an unknown name means no group.

    Raises:
        UsageError: For an unknown option, or a value outside its range.
    """

    probes: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = ''
    family: ClassVar[str] = ''

    def __init__(self, benchmark: Benchmark, **options: Any) -> None:
        declared = self.options()
        for key in options:
            if key not in declared:
                raise unknown(f'option of method {self.name()}', key, declared)
        self.values = {
            key: option.check(options[key], self.name()) if key in options else option.default_on(benchmark)
            for key, option in declared.items()
        }

    @classmethod
    def name(cls) -> str:
        """The name it is registered under."""
        return next((name for name, method in METHODS.module_dict.items() if method is cls), cls.__name__)

    @classmethod
    def options(cls) -> dict[str, Option]:
        """The declared options, by name, in order of declaration."""
        found = _DECLARED.get(cls)
        if found is None:
            found = {}
            for owner in reversed(cls.__mro__):
                found.update({key: value for key, value in vars(owner).items() if isinstance(value, Option)})
            _DECLARED[cls] = found
        return dict(found)

    def apply(self, plan: Plan) -> Plan:
        """Return ``plan`` with this method's changes."""
        raise NotImplementedError


def make_plan(method: Specs | str, benchmark: Benchmark, data_fingerprint: str, seed: int) -> Plan:
    """The plan of one run: the benchmark's plain plan with each part of ``method`` applied in turn.

    Args:
        method: Its parts, or as it is typed: ``'a+b'`` applies a, then b; options in brackets, as in
            ``'nbn(normalize=weight)+la_loss'``.
        benchmark: The resolved benchmark.
        data_fingerprint: Fingerprint of its data.
        seed: The run seed.

    Raises:
        UsageError: For an unknown method or option, or two methods that fill the same slot.
    """
    specs = parse_specs(method) if isinstance(method, str) else method
    given = benchmark.private()
    plan = Plan.plain(given, data_fingerprint, seed)
    for spec in specs:
        before = plan.private()
        changed = build_method(spec, given).apply(replace(plan, author=spec.name))
        if not isinstance(changed, Plan):
            hint = ': is a `return` missing?' if changed is None else ''
            raise TypeError(f'apply of method {spec.name} returned {type(changed).__name__}, not a Plan{hint}')
        if plan != before or not given.computes_as(benchmark):
            raise UsageError(
                f'method {spec.name} modifies the plan or the benchmark that it is given; use the verbs of the '
                'plan, which return a changed copy'
            )
        plan = changed.private()  # a method may keep what it returned, and modify it for its next run
    return plan


def build_method(spec: Spec, benchmark: Benchmark) -> Method:
    """Look a method up and give it its options."""
    cls = lookup(METHODS, spec.name)
    return cls(benchmark, **spec.options)


def probes_of(method: Specs) -> tuple[str, ...]:
    """Names of the probes that the parts of a method request, each once.

    Raises:
        UsageError: If a class does not list names.
    """
    requested: list[str] = []
    for spec in method:
        names = lookup(METHODS, spec.name).probes
        if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
            raise UsageError(f'probes of method {spec.name} is a list of names, got {shortened(names)}')
        requested += names
    return tuple(dict.fromkeys(requested))
