"""The `milp-search` command: parse, call, exit code. Everything heavy is imported when called."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from milp_search.core.errors import InputError, SpecError
from milp_search.core.printable import printable

BAD_INPUT = 2

app = typer.Typer(
    name="milp-search",
    help="Finds the LoRA set-up that personalises a language model best, and at what cost.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(help="A study file (YAML).", metavar="STUDY")]
Folder = Annotated[Path, typer.Argument(help="A study's folder.", metavar="DIR")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Number of training seeds.")]
Parallel = Annotated[int | None, typer.Option("--parallel", help="Workers side by side.")]
BaseModel = Annotated[
    str | None, typer.Option("--base-model", help="embedded, a folder or a hub name.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the base model.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Data file or folder, or hub:OWNER/NAME, of one study."),
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
RayAddress = Annotated[str | None, typer.Option("--ray-address", help="Address of a Ray cluster.")]
Local = Annotated[bool, typer.Option("--local", help="No Ray, one pack of trials at a time.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from milp_search import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def run(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="The study's folder.", metavar="DIR")],
    trials: Annotated[int | None, typer.Option(help="Budget of trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of search and training.")] = None,
    parallel: Parallel = None,
    base_model: BaseModel = None,
    trust_remote_code: TrustRemoteCode = False,
    data: Data = None,
    device: Device = None,
    ray_address: RayAddress = None,
    local: Local = False,
    include_examples: Annotated[
        int | None,
        typer.Option(help="Keep so many answers of each final test: users' texts, in the report."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; train nothing.")
    ] = False,
) -> None:
    """Run a study to its end: search, final tests, report and adapters."""
    given = _overrides(
        trials, parallel, base_model, trust_remote_code, data, device, ray_address, local
    )
    more = {"seed": seed, "examples": include_examples}
    spec = _spec(study, given | {key: value for key, value in more.items() if value is not None})
    from milp_search.dispatch.drive import prepare, run_study

    prepared = prepare(spec, study)
    if dry_run:
        from milp_search.dispatch.dry_run import print_dry_run

        print_dry_run(prepared, _console())
        return
    _finish(run_study(prepared, out, _console()), out)


@app.command()
def resume(folder: Folder) -> None:
    """Go on with a study that was stopped or killed; nothing finished is run again."""
    from milp_search.dispatch.drive import resume_study

    _finish(resume_study(folder, _console()), folder)


@app.command()
def status(folder: Folder) -> None:
    """Print how a study stands; works while it runs."""
    from milp_search.dispatch.show import print_status

    print_status(folder, _console())


@app.command()
def front(folder: Folder) -> None:
    """Print a study's Pareto front."""
    from milp_search.dispatch.show import print_front

    print_front(folder, _console())


@app.command()
def report(folder: Folder) -> None:
    """Write report.html, trials.csv and front.json anew from the store."""
    from milp_search.study.export import export as write_tables
    from milp_search.study.report import write_report
    from milp_search.study.study import Study

    with Study.open(folder, read_only=True) as study:
        write_tables(study)
        _say(write_report(study))


@app.command()
def repair(folder: Folder) -> None:
    """Keep what is whole of a study whose store is damaged; the damaged file stays beside it."""
    from milp_search.study.repair import repair_study

    _say(repair_study(folder))


@app.command()
def export(
    folder: Folder,
    to: Annotated[Path, typer.Option(help="Where to copy the front's adapters.", metavar="DIR")],
) -> None:
    """Copy the front's adapters, as PEFT folders with their manifests, to another place."""
    from milp_search.dispatch.show import copy_adapters

    for path in copy_adapters(folder, to):
        _say(path)


@app.command()
def forget(
    folder: Folder,
    user: Annotated[
        str | None, typer.Option(help="The user's id; - reads it from standard input.")
    ] = None,
    user_file: Annotated[
        Path | None, typer.Option("--user-file", help="A file that holds the id.", metavar="FILE")
    ] = None,
    keep_shared: Annotated[
        bool,
        typer.Option("--keep-shared", help="Keep what learnt from this user and others together."),
    ] = False,
) -> None:
    """Forget a user in all studies of a folder; prove it by a search."""
    from milp_search.dispatch.forget.command import forget_user, read_user

    given = read_user(user, user_file, sys.stdin)
    raise typer.Exit(forget_user(folder, given, _console(), keep_shared=keep_shared))


@app.command()
def compare(
    studies: Annotated[
        list[Path], typer.Argument(help="Study files, a data set each.", metavar="STUDY...")
    ],
    table: Annotated[
        Literal["logo-1", "logo-2", "logo-4", "milp-2", "milp-4", "milp-5", "milp-7", "methods"],
        typer.Option(help="Which table of the papers; methods is every method there is."),
    ],
    out: Annotated[Path, typer.Option(help="The table's folder.", metavar="DIR")],
    seeds: Seeds = None,
    trials: Annotated[int | None, typer.Option(help="Budget of each search.")] = None,
    parallel: Parallel = None,
    base_model: BaseModel = None,
    trust_remote_code: TrustRemoteCode = False,
    data: Data = None,
    paper: Annotated[str | None, typer.Option(help="The paper's data set to stand beside.")] = None,
    device: Device = None,
    ray_address: RayAddress = None,
    local: Local = False,
) -> None:
    """Make a table of the papers on your data; goes on where it was interrupted."""
    given = _overrides(
        trials, parallel, base_model, trust_remote_code, data, device, ray_address, local
    )
    from milp_search.dispatch.comparison.command import compare_studies

    raise typer.Exit(compare_studies(studies, table, out, seeds, paper, given, _console()))


@app.command()
def analyze(
    study: StudyFile,
    figure: Annotated[
        Literal[
            "cold-start",
            "diversity",
            "mediator",
            "limited-history",
            "limited-users",
            "drift",
            "memory",
        ],
        typer.Option(help="Which analysis of the papers."),
    ],
    out: Annotated[Path, typer.Option(help="The analysis' folder.", metavar="DIR")],
    seeds: Seeds = None,
    levels: Annotated[
        str | None, typer.Option(help="What is limited to how much: 5,10,20.")
    ] = None,
    parallel: Parallel = None,
    base_model: BaseModel = None,
    trust_remote_code: TrustRemoteCode = False,
    data: Data = None,
    device: Device = None,
    ray_address: RayAddress = None,
    local: Local = False,
) -> None:
    """Make an analysis of the papers on your data; goes on where it was interrupted."""
    given = _overrides(
        None, parallel, base_model, trust_remote_code, data, device, ray_address, local
    )
    from milp_search.dispatch.comparison.command import analyze_study

    raise typer.Exit(analyze_study(study, figure, out, seeds, levels, given, _console()))


@app.command()
def judge(
    labels: Annotated[Path, typer.Argument(help="Responses that people scored (JSON Lines).")],
    study: Annotated[
        Path | None, typer.Option(help="The study file that names the judge; offline if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the judge's answers are kept.", metavar="DIR")
    ] = None,
) -> None:
    """Print how a judge's scores agree with those of people."""
    from milp_search.dispatch.judging import print_agreement

    print_agreement(labels, None if study is None else _spec(study, {}), out, _console())


@app.command("serve-tiny")
def serve_tiny(
    folder: Annotated[
        Path | None, typer.Argument(help="A study's folder; the bare base if left out.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Which trial; the front's best.")] = None,
    base_model: BaseModel = None,
    device: Device = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 finds a free one.")] = 8077,
) -> None:
    """Serve a model, or a study's front trial with its users' adapters, to chat clients."""
    from milp_search.dispatch.serving.serve import serve

    serve(folder, trial, base_model, device, host, port, _console())


@app.command()
def validate(file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Check a study or space file."""
    from milp_search.dispatch.show import check_file

    _say(check_file(file))


@app.command("list")
def list_names(
    what: Annotated[
        Literal["spaces", "methods", "datasets", "metrics", "prompts"], typer.Argument()
    ],
) -> None:
    """List what can be named in a study file."""
    from milp_search.dispatch.show import print_names

    print_names(what, _console())


@app.command()
def doctor() -> None:
    """Check the installation: versions, devices, Ray, and the surrogate's libraries."""
    from milp_search.dispatch.doctor import print_doctor

    raise typer.Exit(print_doctor(_console()))


def main() -> None:
    """Runs the command line; bad input exits with code 2 and one message."""
    # A running study sends lines of lesser levels to its own log.
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
    screen.setFormatter(_PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    # JAX warns of every fork; those of Ray and of subprocess run another program at once.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    # Until a study runs, whose driver stops gently.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        app()
    except InputError as error:
        print(printable(f"milp-search: {error}"), file=sys.stderr)
        sys.exit(BAD_INPUT)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _overrides(
    trials: int | None,
    parallel: int | None,
    base_model: str | None,
    trust_remote_code: bool,
    data: str | None,
    device: str | None,
    ray_address: str | None,
    local: bool,
) -> dict[str, Any]:
    """Returns what options say in place of the study file, by dotted key."""
    if local and ray_address is not None:
        raise SpecError(
            "expected --local or --ray-address, got both", remedy="leave one of them out"
        )
    overrides = {
        "budget.trials": trials,
        "dispatch.parallel": parallel,
        "base_model": base_model,
        "trust_remote_code": True if trust_remote_code else None,
        "data.path": data,
        "dispatch.device": device,
        "dispatch.ray_address": ray_address,
        "dispatch.local": True if local else None if ray_address is None else False,
    }
    return {key: value for key, value in overrides.items() if value is not None}


def _spec(study: Path, overrides: dict[str, Any]) -> Any:
    from milp_search.metrics.table import METRIC_DIRECTIONS
    from milp_search.study.spec_file import load_study_spec

    return load_study_spec(study, overrides, metrics=tuple(METRIC_DIRECTIONS))


def _console() -> Any:
    from milp_search.dispatch.console import plain_console

    return plain_console()


def _say(line: object) -> None:
    _console().print(str(line), soft_wrap=True, highlight=False)


class _PlainFormatter(logging.Formatter):
    """Writes records so that no text in them steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _finish(code: int, folder: Path) -> None:
    from milp_search.dispatch.show import print_front

    if code in (0, 3):
        print_front(folder, _console())
        _say(f"Report: {folder / 'report.html'}")
    raise typer.Exit(code)
