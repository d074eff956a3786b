"""The command line: verbs only. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import errno
import gc
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.errors import EXIT_FAILED, LTBenchError, UsageError

if TYPE_CHECKING:
    from ltbench.grid.selection import Selection

FILE_ERRORS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE)
"""File errors that the user or an administrator has to fix: shown as one line, wherever they occur."""

app = typer.Typer(
    help='Train long-tailed recognition methods x benchmarks x seeds, and reproduce every number with one command.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes leave only 20 of 80 columns for the text, and cut it
    context_settings={'help_option_names': ['-h', '--help']},
)
data_app = typer.Typer(
    help='Find, download and check the data of benchmarks.', no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name='data')
store_app = typer.Typer(
    help='Manage what was trained: list, verify, clean up.', no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(store_app, name='store')

SuiteName = Annotated[str | None, typer.Argument(metavar='SUITE', help='Name of a suite, or a file. Default: digits.')]
Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        '-b',
        '--benchmark',
        metavar='NAME',
        help='NAME or "NAME(imbalance_factor=50)"; may be repeated. Without a suite: erm with seed 0, unless -m and '
        '--seeds say otherwise.',
    ),
]
OF_ONE_BENCHMARK = typer.Option(
    '-b', '--benchmark', metavar='NAME', help='NAME or "NAME(imbalance_factor=50)": decides images and groups.'
)
Methods = Annotated[
    list[str] | None,
    typer.Option('-m', '--method', metavar='NAME', help='NAME, A+B or "NAME(option=value)"; may be repeated.'),
]
Seeds = Annotated[
    list[str] | None, typer.Option('--seeds', metavar='SEEDS', help='Run seeds, e.g. 0,1,2 or 0-4; may be repeated.')
]
Preset = Annotated[
    str | None,
    typer.Option('--preset', metavar='NAME', help="One of the benchmark's presets; default: its plain recipe."),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        '-o',
        '--option',
        metavar='KEY=VALUE',
        help='recipe.epochs=5, epochs=5, or nbn.normalize=weight; may be repeated.',
    ),
]
ScaleLR = Annotated[
    bool, typer.Option('--scale-lr', help='With -o batch_size=N: scale the learning rate in proportion.')
]
SkipRecorded = Annotated[
    bool,
    typer.Option(
        '--skip-recorded',
        help='Skip runs that already have a record, even if their artifacts are not in this store. For machines that '
        'share results but no store.',
    ),
]
SkipMissing = Annotated[
    bool, typer.Option('--skip-missing', help='Skip benchmarks whose data are missing, and list them.')
]
Figures = Annotated[bool, typer.Option('--figures/--no-figures', help='Draw figures, or make only the tables.')]
Plugins = Annotated[
    list[str] | None, typer.Option('--plugin', metavar='FILE', help='A file with your method; may be repeated.')
]


def _show_version(wanted: bool) -> None:
    if wanted:
        from ltbench import __version__

        typer.echo(f'ltbench {__version__}')
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option('--version', callback=_show_version, is_eager=True, help='Show the version.')
    ] = False,
) -> None:
    """Options of the command itself; each verb has its own."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError('the working directory no longer exists: cd into another one') from None


@app.command()
def run(
    suite: SuiteName = None,
    benchmark: Benchmarks = None,
    method: Methods = None,
    seeds: Seeds = None,
    preset: Preset = None,
    option: Options = None,
    plugin: Plugins = None,
    scale_lr: ScaleLR = False,
    executor: Annotated[
        str,
        typer.Option(metavar='NAME', help='Where stages run: local, ray (a Ray cluster) or slurm (Slurm jobs).'),
    ] = 'local',
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar='N', help='Stages at once; default: one per GPU, or one per core without GPUs.'),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar='MINUTES', min=0, help='Stop a stage that takes longer, and mark it as failed.'),
    ] = None,
    gpus_per_stage: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar='SHARE', help='With --executor ray: share of a GPU per stage; default: 1.'),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar='KEY=VALUE',
            help='With --executor slurm: partition=gpu, time=120 (minutes), mem=16G, account=ME, ...; may be repeated.',
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar='TRACKER', help='Also write each run to tensorboard, wandb or mlflow; may be repeated.'),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar='EPOCHS',
            help='Also evaluate every N epochs, for training curves. Default: only after the last epoch.',
        ),
    ] = None,
    skip_recorded: SkipRecorded = False,
    skip_missing: SkipMissing = False,
    figures: Figures = True,
    dry_run: Annotated[
        bool, typer.Option('--dry-run', help='Show what would be trained, and what is in the store.')
    ] = False,
) -> None:
    """Plan, train what is missing, record, report."""
    from ltbench.grid.selection import Execution, Selection, check_names
    from ltbench.spec import parse_assignments, parse_seeds

    execution = Execution(
        executor, workers, timeout, gpus_per_stage, parse_assignments(slurm or ()), tuple(track or ()), eval_every,
        tuple(plugin or ()), figures,
    )  # fmt: skip
    selection = Selection(
        suite, tuple(benchmark or ()), tuple(method or ()), parse_seeds(seeds or ()), preset,
        parse_assignments(option or ()), scale_lr, skip_recorded, skip_missing,
    )  # fmt: skip
    check_names(selection, plugin or ())  # before torch is imported
    if dry_run:
        if executor != 'local':
            from ltbench.registry import EXECUTORS, lookup

            lookup(EXECUTORS, executor)
        from ltbench.verbs.dry_run import show_plan

        show_plan(selection, execution.plugins)
        return
    question = None
    if executor == 'local' and not (plugin or track or eval_every):
        question = _show_if_cached(selection, figures)
    if executor == 'local':
        from ltbench.grid.executors.fork_server import fork_server

        fork_server()  # imports torch at the same time as this process
    from ltbench.console import meanwhile

    with meanwhile('importing torch'):
        from ltbench.verbs.run import run as carry_out

    raise typer.Exit(carry_out(selection, execution, question).code)


@app.command(short_help='Score predictions made outside ltbench.')
def score(
    file: Annotated[
        Path, typer.Argument(metavar='FILE', help='Logits or predicted classes of the test images: .npz, .npy or .csv.')
    ],
    benchmark: Annotated[str, OF_ONE_BENCHMARK],
    name: Annotated[str, typer.Option(metavar='TEXT', help='Name of the method.')],
    seed: Annotated[int, typer.Option(min=0, metavar='N', help='Seed of its training.')] = 0,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar='KEY=VALUE',
            help='A fact about the training, stored unchecked: epochs=200, url=https://...; may be repeated.',
        ),
    ] = None,
    suite: Annotated[str, typer.Option(help='Suite that the record goes to.')] = 'submitted',
    preset: Preset = None,
) -> None:
    """Score networks trained elsewhere: their predictions become a record, marked as submitted, in a separate table.

    `.npy`: logits [N, C] or classes [N]. `.npz`: `logits` or `predictions`, optionally `labels` and `names`. `.csv`: a
    header with `prediction`, or `0` to `C-1` for the logits; optionally `label` and `name`. Rows are in the order
    of the test images, or have their names.
    """
    from ltbench import plugins
    from ltbench.benchmark import load_benchmark
    from ltbench.spec import parse_assignments
    from ltbench.verbs.score import score as score_file

    plugins.load()  # plug-ins in $LTBENCH_PLUGINS may define the data set
    score_file(file, load_benchmark(benchmark, preset), name, seed, parse_assignments(claim or ()), suite)


@app.command('eval', short_help='Score a recorded run again, or a published checkpoint.')
def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(metavar='RUN', help='A recorded run: path or name of its record, SUITE/NAME, or fingerprint.'),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar='FILE', help='A published checkpoint; nothing in it is executed.')
    ] = None,
    source: Annotated[
        str | None,
        typer.Option('--from', metavar='SOURCE', help='nbn, classifier-balancing, ldam-drw or torchvision.'),
    ] = None,
    benchmark: Annotated[str | None, OF_ONE_BENCHMARK] = None,
    preset: Preset = None,
    option: Annotated[
        list[str] | None,
        typer.Option('-o', '--option', metavar='KEY=VALUE', help='backbone.name=resnext50_32x4d; may be repeated.'),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar='NUMBERS',
            help="Channel means used in its training (pixels 0 to 1): 0.49,0.48,0.45; default: the source's.",
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(metavar='NUMBERS', help='Channel standard deviations; needs --mean.')
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help='Suite that the record of a checkpoint goes to; default: imported.')
    ] = None,
    everything: Annotated[
        bool, typer.Option('--all', help='Add newer metrics and lost predictions to all records, from stored logits.')
    ] = False,
    predictions: Annotated[
        bool, typer.Option('--predictions', help="Show the run's most confident wrong predictions.")
    ] = False,
    table: Annotated[
        Path | None, typer.Option('--csv', metavar='FILE', help='With --predictions: write all test images to a file.')
    ] = None,
) -> None:
    """Recompute a recorded run's metrics from its stored logits, or score a published checkpoint. Trains nothing.

    `ltbench eval RUN` compares what it computes with the record; the exit code is 1 if they differ.

    `ltbench eval RUN --predictions` shows its most confident wrong predictions: true and predicted class
    with their probabilities.

    `ltbench eval --checkpoint FILE --from SOURCE -b BENCHMARK` follows the same protocol and records the score as
    imported.

    `ltbench eval --all` adds newer metrics and missing predictions to all records, computed from their stored logits.
    """
    needed = {'--checkpoint': checkpoint, '--from': source, '-b': benchmark}
    given = needed | {'--preset': preset, '-o': option, '--mean': mean, '--std': std, '--suite': suite}
    extra = [name for name, value in given.items() if value]
    if table is not None and not predictions:
        raise UsageError('--csv needs --predictions: ltbench eval RUN --predictions --csv FILE')
    if everything:
        if run is not None or extra or predictions:
            raise UsageError('--all takes no other argument')
        from ltbench.verbs.eval import complete_records

        raise typer.Exit(complete_records())
    if run is not None:
        if extra:
            raise UsageError(
                f'{", ".join(extra)} belong to a checkpoint, not to the recorded run {run!r}; give only one of them'
            )
        if predictions:
            from ltbench.verbs.mistakes import show_predictions

            show_predictions(run, table)
            return
        from ltbench.verbs.eval import show_rescored

        raise typer.Exit(show_rescored(run))
    if predictions:
        raise UsageError('--predictions needs a recorded RUN: ltbench eval RUN --predictions')
    if checkpoint is None or source is None or benchmark is None:
        missing = [name for name, value in needed.items() if value is None]
        raise UsageError(
            f'a checkpoint needs {", ".join(missing)} too: ltbench eval --checkpoint FILE --from SOURCE -b BENCHMARK'
            if extra
            else 'nothing to evaluate: give a recorded RUN (`ltbench ls runs` lists them), '
            'or --checkpoint FILE --from SOURCE -b BENCHMARK'
        )
    if (mean is None) != (std is None):
        raise UsageError('--mean and --std belong together: give both, or neither to use those of the source')
    from ltbench.spec import parse_assignments, parse_numbers

    pixels = (
        (parse_numbers('--mean', mean), parse_numbers('--std', std)) if mean is not None and std is not None else None
    )
    from ltbench import plugins
    from ltbench.benchmark import load_benchmark
    from ltbench.verbs.imported import score_checkpoint

    plugins.load()  # plug-ins in $LTBENCH_PLUGINS may define the data set or the network
    chosen = load_benchmark(benchmark, preset, parse_assignments(option or ()))
    for line in score_checkpoint(checkpoint, source, chosen, suite or 'imported', pixels):
        typer.echo(line)


@app.command(short_help='Show two recorded runs side by side.')
def compare(
    first: Annotated[str, typer.Argument(metavar='RUN', help='As for eval: path, name, SUITE/NAME or fingerprint.')],
    second: Annotated[str, typer.Argument(metavar='RUN', help='Another run of the same benchmark.')],
    all_classes: Annotated[bool, typer.Option('--all', help='Show every class, not only those that differ most.')] = (
        False
    ),
) -> None:
    """Show two recorded runs side by side: config, metrics, classes, and a paired test over the test images."""
    from ltbench.verbs.compare import show_comparison

    show_comparison(first, second, all_classes)


@app.command()
def report(
    suite: SuiteName = None,
    figures: Figures = True,
    latex: Annotated[bool, typer.Option('--latex', help='Also write the leaderboard as LaTeX tables.')] = False,
    ablate: Annotated[
        list[str] | None,
        typer.Option(metavar='METHOD.OPTION', help='Also compare the values of an option; may be repeated.'),
    ] = None,
    leave_out: Annotated[
        bool, typer.Option('--leave-out', help='Leave out invalid or conflicting records, and list them.')
    ] = False,
    strict: Annotated[
        bool, typer.Option('--strict', help='Fail if a table mixes environments or a file was left out.')
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar='FILE',
            help='Also insert figure and short table between <!-- ltbench SUITE/TABLE --> and <!-- /ltbench --> of a '
            'Markdown file.',
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option('--paper', help='Also draw for a paper: PDF and SVG at column and text width, without titles.'),
    ] = False,
    show: Annotated[
        str,
        typer.Option(
            metavar='METHOD,...',
            help='Methods that figures show, in order; include erm to compare with it; default: all.',
        ),
    ] = '',
) -> None:
    """Rebuild the tables and figures of a suite from its records. Trains nothing."""
    from ltbench.console import make_console, printable
    from ltbench.verbs.report import report as rebuild

    console = make_console()
    for path in rebuild(
        'digits' if suite is None else suite, figures, latex, ablate or (), leave_out, strict, into, paper, show
    ):
        console.print(printable(path), highlight=False, soft_wrap=True)


@app.command(short_help='Show the state of every run, and why.')
def status(
    suite: SuiteName = None,
    benchmark: Benchmarks = None,
    method: Methods = None,
    seeds: Seeds = None,
    preset: Preset = None,
    option: Options = None,
    plugin: Plugins = None,
    scale_lr: ScaleLR = False,
    skip_recorded: SkipRecorded = False,
    skip_missing: SkipMissing = False,
    watch: Annotated[bool, typer.Option('--watch', help='Refresh every two seconds.')] = False,
    as_json: Annotated[bool, typer.Option('--json', help='Print JSON, for programs.')] = False,
) -> None:
    """Show which runs are done, recorded, running, pending, stale, blocked or failed, with reasons."""
    from ltbench.console import machine_output
    from ltbench.grid.selection import Selection, check_names
    from ltbench.spec import parse_assignments, parse_seeds

    selection = Selection(
        suite, tuple(benchmark or ()), tuple(method or ()), parse_seeds(seeds or ()), preset,
        parse_assignments(option or ()), scale_lr, skip_recorded, skip_missing,
    )  # fmt: skip
    check_names(selection, plugin or ())  # before torch is imported
    from ltbench.verbs.status import status as show_status

    with machine_output() if as_json else nullcontext() as write:
        show_status(selection, plugin or [], watch, write)


@app.command('ls', short_help='List methods, benchmarks, suites, figures or runs.')
def ls(
    what: Annotated[str, typer.Argument(metavar='methods|benchmarks|suites|figures|runs')],
    suite: Annotated[str | None, typer.Argument(metavar='SUITE', help='For runs: only those of one suite.')] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option('-b', '--benchmark', help='For runs: NAME, or a pattern like "cifar*".')
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option('-m', '--method', help='For runs: as recorded, or a pattern like "nbn*".')
    ] = None,
    seeds: Seeds = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option('--json', help='Print JSON with all details, for programs.')] = False,
) -> None:
    """List methods, benchmarks, suites, kinds of figures or recorded runs, one line each."""
    from ltbench.console import machine_output
    from ltbench.spec import parse_seeds
    from ltbench.verbs.ls import Filter, list_things

    wanted = Filter(suite, tuple(benchmark or ()), tuple(method or ()), parse_seeds(seeds or ()))
    with machine_output() if as_json else nullcontext() as write:
        code = list_things(what, plugin or [], write, wanted)
    raise typer.Exit(code)


@app.command(short_help='Show one method, benchmark or suite.')
def show(
    name: Annotated[str, typer.Argument(metavar='NAME', help='A method (also NAME+NAME), a benchmark or a suite.')],
    benchmark: Annotated[
        str, typer.Option('-b', '--benchmark', help="Benchmark on which a method's plan is compared with erm's.")
    ] = 'digits_lt',
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option('--json', help='Print JSON, for programs.')] = False,
) -> None:
    """Show one method (paper, options, plan against erm, recorded results), benchmark or suite."""
    from ltbench.console import machine_output
    from ltbench.verbs.show import show as show_thing

    with machine_output() if as_json else nullcontext() as write:
        show_thing(name, benchmark, plugin or [], write)


@app.command(short_help='Test that methods keep the contract.')
def check(
    method: Annotated[list[str] | None, typer.Argument(metavar='METHOD', help='Default: all methods.')] = None,
    plugin: Plugins = None,
) -> None:
    """Test that methods keep the contract: yours as well as the built-in ones."""
    from ltbench.verbs.check import check_methods

    raise typer.Exit(check_methods(method or [], plugin or []))


@app.command(short_help='Measure this machine: our path against references.')
def bench(
    part: Annotated[str, typer.Argument(metavar='train|data|views|large|stage2|grid|start|report')],
    out: Annotated[Path | None, typer.Option(help='Also write the result to this JSON file.')] = None,
    rounds: Annotated[int, typer.Option(help='Measurements of each side, at least 5.')] = 7,
    threads: Annotated[
        int | None, typer.Option(min=1, help='For train, stage2 and grid, on both sides; default: 1, as in a stage.')
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar='resnet32|digits', help='For train; default: both, one after the other.')
    ] = None,
) -> None:
    """Measure this machine: our path against its reference, alternating in one run."""
    from ltbench.verbs.bench import bench as measure
    from ltbench.verbs.bench import show

    for line in show(measure(part, out, rounds, threads=threads, model=model)):
        typer.echo(line)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar='METHOD', help='Name of the method: lower case, like my_method.')],
) -> None:
    """Write a method file and its test from a template."""
    from ltbench.verbs.new import new_method

    for line in new_method(name):
        typer.echo(line)


@data_app.command('ls')
def data_ls() -> None:
    """List the benchmarks' data and whether they are there."""
    from ltbench.verbs.data import list_data

    list_data()


@data_app.command('get', short_help='Download what is missing or damaged, and check it.')
def data_get(benchmark: Annotated[str, typer.Argument(help='Name of a benchmark.')]) -> None:
    """Download missing or damaged files, resuming partial ones, and check them; or say which files to put where."""
    from ltbench.verbs.data import get_data

    raise typer.Exit(get_data(benchmark))


@data_app.command('check', short_help='Compare every file with its published checksum.')
def data_check(benchmark: Annotated[str, typer.Argument(help='Name of a benchmark.')]) -> None:
    """Compare every file with its published checksum, and count the images of large sets."""
    from ltbench.verbs.data import check_data

    raise typer.Exit(check_data(benchmark))


@data_app.command('prepare', short_help='Decode large images once.')
def data_prepare(
    benchmark: Annotated[str, typer.Argument(help='Name of a benchmark of large images.')],
    side: Annotated[
        int | None,
        typer.Option(
            min=1, max=4096, metavar='PIXELS', help='Shorter side; default: that of test images in the recipe, 256.'
        ),
    ] = None,
) -> None:
    """Decode large images once into files of raw pixels, on which `ltbench run -o prepared=256` trains.

    That run also prepares what is missing. An interrupted preparation resumes where it stopped.
    """
    from ltbench.verbs.data import prepare_data

    prepare_data(benchmark, side)


@store_app.command('ls', short_help='List the artifacts.')
def store_ls() -> None:
    """List the artifacts: kind, size, age, and how many records use each."""
    from ltbench.verbs.store import show_store

    show_store()


@store_app.command('verify', short_help='Compare every file with its checksum.')
def store_verify() -> None:
    """Compare every file with its checksum and set damaged artifacts aside."""
    from ltbench.verbs.store import verify_store

    raise typer.Exit(verify_store())


@store_app.command('gc', short_help='Remove artifacts that no record uses.')
def store_gc(
    days: Annotated[float, typer.Option(min=0, help='Keep what is younger than this.')] = 7.0,
    yes: Annotated[bool, typer.Option('--yes', help='Do not ask for confirmation.')] = False,
) -> None:
    """Remove artifacts that no record uses, and leftovers of interrupted work."""
    from ltbench.verbs.store import clean_store

    clean_store(days, yes)


def main() -> None:
    """Entry of the console script: errors that a user can fix are one line, everything else is a traceback."""
    from ltbench.console import say, tolerant_streams

    # many objects, little garbage: with 10,000 records each collection takes a second
    gc.set_threshold(100_000, 50, 50)
    with tolerant_streams() as lost:
        code: object = 0
        try:
            _run_app()
        except LTBenchError as error:
            say(f'ltbench: {error}')
            if plugins := sys.modules.get('ltbench.plugins'):
                for line in plugins.not_loaded():
                    say(line)
            code = error.exit_code
        except SystemExit as end:
            code = end.code
        if not code and (reason := lost()):
            say(f'ltbench: could not write everything to standard output: {reason}')
            code = EXIT_FAILED
    sys.exit(code)  # type: ignore[arg-type]


def _run_app() -> None:
    """Run a verb; a file operation that the operating system refuses is one line, wherever it occurs."""
    try:
        app()
    except OSError as error:
        if error.errno not in FILE_ERRORS or error.filename is None:
            raise
        from ltbench.sealed import unreadable

        raise unreadable(Path(error.filename), error) from error


def _show_if_cached(selection: Selection, figures: bool) -> str | None:
    """Show the cached output of a selection and exit, if nothing has changed since; else return its cache key."""
    from ltbench.console import make_console
    from ltbench.grid.answer import Answers, question_of, show
    from ltbench.store import Store

    question = question_of('run', selection, figures)
    if question and (answer := Answers(Store().root, question).find()):
        show(answer['content'], make_console())
        raise typer.Exit
    return question


if __name__ == '__main__':
    main()
