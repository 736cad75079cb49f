"""The commands of `uvea`: what each takes, and which workflow it calls.

Workflows are imported when their command runs, so that `--help` needs neither torch nor numpy.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

import uvea
from uvea.cli import show
from uvea.cli.outcome import Commands, Interrupted, ended
from uvea.cli.progress import listening
from uvea.datasets.case import DataOptions
from uvea.datasets.names import listed
from uvea.errors import ModelError, OutputError, UveaError
from uvea.workflows.events import Listener

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

DATA_PANEL = "How the data is read"
BUDGET_PANEL = "How long to train (10 minutes unless one is given)"
PLAN_PANEL = "What to decide differently"
PAIRING_PANEL = "What belongs together, and what counts"
MEASURE_PANEL = "What to measure"
AFTER_PANEL = "Behind the network (as the validation cases said)"

MOST_ALIKE = 3
"""Images that fail for one reason and are explained one by one; of more, the first is, and the others are named."""

NAMES_SHOWN = 20

FAILURES_SHOWN = 10
"""Cases that could not be scored and are explained one by one; summary.json has all."""


class OptionError(UveaError):
    """Options that contradict each other, or that cannot be understood."""


Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder with images and masks, or a CSV file.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No bars: one line per finished task, warnings, the result.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the fastest there is, unless given.")]
Seed = Annotated[int, typer.Option(help="Start of all randomness: the same seed gives the same run.")]
ImagesGlob = Annotated[
    str | None,
    typer.Option("--images", metavar="GLOB", help='Which files are images: "raw/*.tif".', rich_help_panel=DATA_PANEL),
]
MasksGlob = Annotated[
    str | None,
    typer.Option("--masks", metavar="GLOB", help='Which files are masks: "gt/*.png".', rich_help_panel=DATA_PANEL),
]
Axes = Annotated[
    str | None,
    typer.Option(help="Axes of the image files, such as zyx or cyx, if they say it wrong.", rich_help_panel=DATA_PANEL),
]
IgnoreValue = Annotated[
    int | None,
    typer.Option(help="Mask value of pixels that nobody annotated.", rich_help_panel=DATA_PANEL),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Names of the classes, background first; or of all values: 0=background,255=cell.",
        rich_help_panel=DATA_PANEL,
    ),
]
Instances = Annotated[
    bool | None,
    typer.Option(
        "--instances/--no-instances",
        help="Mask values are object numbers, or they are classes; found out unless given.",
        rich_help_panel=DATA_PANEL,
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="File names to leave out; may be repeated.", rich_help_panel=DATA_PANEL),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        metavar="N",
        help="Refuse image files that declare more, all channels and slices counted; 2147483648 unless given.",
        rich_help_panel=DATA_PANEL,
        show_default=False,
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        "--split",
        metavar="FILE",
        help="Which cases train, which validate; with --folds one split per fold.",
        rich_help_panel=DATA_PANEL,
    ),
]
AllowLeak = Annotated[
    bool,
    typer.Option(
        "--allow-leak",
        help="Groups or copies may be on both sides of your own split; the report says so.",
        rich_help_panel=DATA_PANEL,
    ),
]
Minutes = Annotated[float | None, typer.Option(help="Minutes for the whole command.", rich_help_panel=BUDGET_PANEL)]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.", rich_help_panel=BUDGET_PANEL)]
Steps = Annotated[int | None, typer.Option(help="Batches.", rich_help_panel=BUDGET_PANEL)]
Folds = Annotated[
    int,
    typer.Option(min=1, help="5: cross-validate, and keep five networks as an ensemble.", rich_help_panel=PLAN_PANEL),
]
CheckedFolds = Annotated[
    int,
    typer.Option(
        min=1,
        help="5: show the parts of a cross-validation; as many as the FILE of --split has.",
        rich_help_panel=DATA_PANEL,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Overrule a decision that `uvea plan` lists, such as patch=256,256; may be repeated.",
        rich_help_panel=PLAN_PANEL,
    ),
]

ScoredLabels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Names of the classes, background first; or all values: 0=background,1=liver.",
        rich_help_panel=PAIRING_PANEL,
    ),
]
GroupTable = Annotated[
    Path | None,
    typer.Option(
        "--group",
        metavar="FILE",
        help="Table of case and group, such as a patient; sub-folders of REFERENCE unless given.",
        rich_help_panel=PAIRING_PANEL,
    ),
]
Within = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Masks of the region that counts, such as a field of view.",
        rich_help_panel=PAIRING_PANEL,
    ),
]
Ignore = Annotated[
    int | None,
    typer.Option(
        "--ignore-value",
        "--ignore",
        help="Reference value of pixels that do not count.",
        rich_help_panel=PAIRING_PANEL,
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        help="Score a missing prediction as an empty mask; otherwise it is an error.",
        rich_help_panel=PAIRING_PANEL,
    ),
]
AllowExtra = Annotated[
    bool,
    typer.Option("--allow-extra", help="Leave out predictions without a reference.", rich_help_panel=PAIRING_PANEL),
]
Tolerance = Annotated[
    float,
    typer.Option(
        help="Distance that NSD forgives, in the unit of the files; in pixels where they have none.",
        rich_help_panel=MEASURE_PANEL,
    ),
]
NoDistances = Annotated[
    bool,
    typer.Option(
        "--no-distances",
        help="Leave distances and lesions out, which take most of the time.",
        rich_help_panel=MEASURE_PANEL,
    ),
]
ScoredInstances = Annotated[
    bool | None,
    typer.Option(
        "--instances/--no-instances",
        help="Mask values are object numbers: score objects, too.",
        rich_help_panel=MEASURE_PANEL,
        show_default=False,
    ),
]
Membranes = Annotated[
    bool,
    typer.Option(
        "--em-membranes",
        help="Score the cells between thinned membranes; the background is membrane.",
        rich_help_panel=MEASURE_PANEL,
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Cases at a time; as many as cores, unless given.", show_default=False)
]


@app.callback(invoke_without_command=True)
def uvea_command(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """U-Nets for biomedical images: a folder of images and masks in, masks for new images out.

    Start with [bold]uvea demo[/], which needs no data, or with [bold]uvea check DATA[/] on your own.
    """
    if version:
        show.line(f"uvea {uvea.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        show.line(context.get_help())


@app.command()
@ended
def demo(
    *,
    out: Out = Path("uvea-demo"),
    minutes: Annotated[float, typer.Option(help="Minutes of training.")] = 1.5,
    seed: Seed = 42,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Show the whole way without any data of yours.

    Makes synthetic nuclei, trains on them, predicts test images, scores them, and shows it all in a report.

    [bold]Example:[/]  uvea demo --out uvea-demo
    """
    from uvea.workflows.demo import demo as run

    with listening(quiet=quiet) as listen:
        result = run(out, seed=seed, overwrite=overwrite, minutes=minutes, listen=listen)
    show.facts(
        [
            ("Dice on the test images", f"{result.dice:.3f}"),
            ("report of the training", str(result.report)),
            ("test images, masks and scores", str(result.scores)),
            ("everything else", str(result.folder)),
        ]
    )


@app.command()
@ended
def check(
    data: Data,
    *,
    images: ImagesGlob = None,
    masks: MasksGlob = None,
    axes: Axes = None,
    ignore_value: IgnoreValue = None,
    labels: Labels = None,
    instances: Instances = None,
    skip: Skip = None,
    max_pixels: MaxPixels = None,
    split: SplitFile = None,
    folds: CheckedFolds = 1,
    all_files: Annotated[bool, typer.Option("--all-files", help="List every file of every finding.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show what is there, how it is read, and everything that is wrong with it.

    Nothing is written. The exit code is 2 when there are errors, which stop a training; warnings do not.

    [bold]Example:[/]  uvea check cells --images "raw/*.tif" --masks "gt/*.png"
    """
    from uvea.workflows.check import check as run

    options = _data_options(
        images, masks, axes, ignore_value, labels=labels, instances=instances, skip=skip, max_pixels=max_pixels
    )
    with listening(quiet=quiet) as listen:
        report = run(data, options=options, split_file=split, folds=folds, listen=listen)
    show.facts(report.rows())
    show.line("")
    show.findings(report.findings, all_files=all_files)
    show.line(show.finding_counts(report.findings))
    if report.errors:
        raise typer.Exit(2)


@app.command()
@ended
def plan(
    data: Data,
    *,
    minutes: Minutes = None,
    epochs: Epochs = None,
    steps: Steps = None,
    overrides: Overrides = None,
    folds: Folds = 1,
    seed: Seed = 42,
    images: ImagesGlob = None,
    masks: MasksGlob = None,
    axes: Axes = None,
    ignore_value: IgnoreValue = None,
    labels: Labels = None,
    instances: Instances = None,
    skip: Skip = None,
    max_pixels: MaxPixels = None,
    split: SplitFile = None,
    allow_leak: AllowLeak = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Show every decision and the reason for it, without training.

    Nothing is written. Each decision can be overruled by its name with --set, here and in `uvea train`.

    [bold]Example:[/]  uvea plan cells --minutes 10 --set patch=256,256
    """
    from uvea.plan.budget import Budget
    from uvea.workflows.plan import plan as run

    budget = Budget(minutes=minutes, epochs=epochs, steps=steps)
    options = _data_options(
        images, masks, axes, ignore_value, labels=labels, instances=instances, skip=skip, max_pixels=max_pixels
    )
    with listening(quiet=quiet) as listen:
        report = run(
            data,
            options=options,
            budget=budget,
            overrides=_overrides(overrides),
            split_file=split,
            folds=folds,
            allow_leak=allow_leak,
            seed=seed,
            device=device,
            listen=listen,
        )
    show.table(("decision", "value", "reason"), report.plan.rows())
    if report.findings:
        show.line("")
        show.findings(report.findings)
        show.line(show.finding_counts(report.findings))


@app.command()
@ended
def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="Folder with images and masks, or a CSV file."),
    ] = None,
    *,
    out: Out = Path("model"),
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="MODEL", help="Continue a training that stopped; no DATA then."),
    ] = None,
    minutes: Minutes = None,
    epochs: Epochs = None,
    steps: Steps = None,
    overrides: Overrides = None,
    folds: Folds = 1,
    seed: Seed = 42,
    images: ImagesGlob = None,
    masks: MasksGlob = None,
    axes: Axes = None,
    ignore_value: IgnoreValue = None,
    labels: Labels = None,
    instances: Instances = None,
    skip: Skip = None,
    max_pixels: MaxPixels = None,
    split: SplitFile = None,
    allow_leak: AllowLeak = False,
    checkpoint_every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Work that a kill may cost; an epoch or two minutes, whichever is sooner, unless given.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Plan, train and validate; write a model and its report.

    Ctrl-C stops it, and `uvea train --resume MODEL` continues.

    [bold]Example:[/]  uvea train cells --out model --minutes 10

    [bold]Example:[/]  uvea train --resume model
    """
    if resume is not None:
        _refuse_beside_resume(context)
        from uvea.workflows.train import resume as go_on

        with _training(resume, resumed=True), listening(quiet=quiet) as listen:
            go_on(resume, listen=listen)
        _show_model(resume)
        return
    if data is None:
        hint = "uvea train DATA --out model, or uvea train --resume model"
        raise OptionError("there is no DATA to train on", hint=hint)
    from uvea.workflows.train import train as run

    options = _data_options(
        images, masks, axes, ignore_value, labels=labels, instances=instances, skip=skip, max_pixels=max_pixels
    )
    settings = _overrides(overrides)
    with _training(out), listening(quiet=quiet) as listen:
        run(
            data,
            out=out,
            minutes=minutes,
            epochs=epochs,
            steps=steps,
            options=options,
            overrides=settings,
            split_file=split,
            folds=folds,
            allow_leak=allow_leak,
            checkpoint_every=checkpoint_every,
            seed=seed,
            device=device,
            overwrite=overwrite,
            listen=listen,
        )
    _show_model(out)


@app.command()
@ended
def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `uvea train` wrote.")],
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Where the data is now; where it was, unless given.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Check that a model is what its training wrote: weights, plan, scores, split, and the data where it still is.

    The exit code is 2 when something differs or cannot be read.

    [bold]Example:[/]  uvea verify model
    """
    from uvea.workflows.verify import verify as run

    with listening(quiet=quiet) as listen:
        found = run(model, data=data, listen=listen)
    show.facts(found.rows)
    for problem in found.problems:
        show.user_error(problem)
    if not found.ok:
        raise typer.Exit(2)
    show.line(f"{model} is as it was written")


MinSize = Annotated[
    str | None,
    typer.Option(
        "--min-size",
        metavar="PIXELS",
        help="Smaller pieces are dropped: 20, or of classes liver=20,tumour=5; smaller objects join a neighbour, or "
        "vanish where they have none. Where the plan has a spacing, these are pixels of it.",
        rich_help_panel=AFTER_PANEL,
    ),
]
ObjectMinSize = Annotated[
    str | None,
    typer.Option(
        "--min-size",
        metavar="PIXELS",
        help="Objects: smaller ones join a neighbour, or vanish where they have none. "
        "Where the plan has a spacing, these are pixels of it.",
        rich_help_panel=AFTER_PANEL,
    ),
]
FillHoles = Annotated[
    str | None,
    typer.Option(
        "--fill-holes",
        metavar="PIXELS",
        help="Fill holes of up to so many pixels: 100, or of classes liver=100,tumour=20; in objects all, or with 0 "
        "none.",
        rich_help_panel=AFTER_PANEL,
    ),
]
ObjectFillHoles = Annotated[
    str | None,
    typer.Option(
        "--fill-holes",
        metavar="PIXELS",
        help="Objects: 1 or more fills all holes, 0 none.",
        rich_help_panel=AFTER_PANEL,
    ),
]
Gap = Annotated[
    float | None,
    typer.Option(help="Objects: smaller values split more; from 0 to 1.", rich_help_panel=AFTER_PANEL),
]
Foreground = Annotated[
    float | None,
    typer.Option(help="Objects: probability from which a pixel belongs to one.", rich_help_panel=AFTER_PANEL),
]
Least = Annotated[
    float | None,
    typer.Option(
        help="Objects: a centre below this is none of its own beside another; from 0 to 1.",
        rich_help_panel=AFTER_PANEL,
    ),
]
Outlines = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Objects: outlines for imagej (NAME_rois.zip) and geojson (NAME.geojson, for QuPath).",
    ),
]


@app.command()
@ended
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `uvea train` wrote.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES", help="Image files, folders of them, or globs.")],
    *,
    out: Out,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class too.")
    ] = False,
    keep_probabilities: Annotated[
        bool, typer.Option("--keep-probabilities", help="The same in 16 bits, for `uvea decode`.")
    ] = False,
    outlines: Outlines = None,
    largest_component: Annotated[
        str | None,
        typer.Option(
            "--largest-component",
            metavar="A,B",
            help="Classes of which only the largest piece is kept; all, or none.",
            rich_help_panel=AFTER_PANEL,
        ),
    ] = None,
    min_size: MinSize = None,
    fill_holes: FillHoles = None,
    gap: Gap = None,
    foreground: Foreground = None,
    least: Least = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Average over mirrored copies; slower.")] = False,
    axes: Annotated[
        str | None, typer.Option(help="Axes of the files, such as zyx or cyx, if they say it wrong.")
    ] = None,
    device: Device = None,
    engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="auto, torch, openvino or onnxruntime; auto is PyTorch.")
    ] = "auto",
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Run in int8 with OpenVINO; refused if it costs more than 0.002 validation Dice."),
    ] = False,
    max_pixels: MaxPixels = None,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out images whose masks are there and whole.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a mask for each image, in its format, geometry and name.

    Mask values are those that the model was trained with. One bad image does not stop the others; the exit code is 2.

    A model that tells objects apart numbers them, and writes a table of them, NAME_objects.csv.

    [bold]Example:[/]  uvea predict model new/*.tif --out masks
    """
    from uvea.workflows.predict import predict_files

    after = _after(largest_component, min_size, fill_holes, gap=gap, foreground=foreground, least=least)

    def run(listen: Listener) -> list[Path]:
        return predict_files(
            model,
            images,
            out=out,
            overwrite=overwrite,
            resume=resume,
            probabilities=probabilities,
            keep_probabilities=keep_probabilities,
            outlines=_words(outlines),
            after=after,
            mirror=mirror,
            axes=axes,
            max_pixels=max_pixels,
            device=device,
            engine=engine,
            int8=int8,
            listen=listen,
        )

    _write_files(run, out, quiet=quiet)


@app.command()
@ended
def decode(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `uvea train` wrote.")],
    probabilities: Annotated[
        list[str],
        typer.Argument(metavar="FILES", help="What `uvea predict --keep-probabilities` wrote, or folders of it."),
    ],
    *,
    out: Out,
    outlines: Outlines = None,
    gap: Gap = None,
    foreground: Foreground = None,
    least: Least = None,
    min_size: ObjectMinSize = None,
    fill_holes: ObjectFillHoles = None,
    axes: Annotated[
        str | None, typer.Option(help="Axes of the files, such as zyx or cyx, if they say it wrong.")
    ] = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find objects anew with other settings, without running the network again.

    The images are not read, so NAME_objects.csv has no intensities here.

    Masks have the format of FILES, TIFF even where predict wrote PNG: choose another folder than that of its masks.

    [bold]Example:[/]  uvea predict model new/*.tif --out masks --keep-probabilities

    [bold]Example:[/]  uvea decode model masks --out split-more --gap 0.1
    """
    from uvea.workflows.predict import decode_files

    after = _after(None, min_size, fill_holes, gap=gap, foreground=foreground, least=least, by_class=False)

    def run(listen: Listener) -> list[Path]:
        return decode_files(
            model,
            probabilities,
            out=out,
            overwrite=overwrite,
            outlines=_words(outlines),
            after=after,
            axes=axes,
            max_pixels=max_pixels,
            listen=listen,
        )

    _write_files(run, out, quiet=quiet)


@app.command("import-keras")
@ended
def import_keras(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What Keras saved: .keras, .h5 or .weights.h5.")],
    *,
    out: Out = Path("model"),
    scale: Annotated[
        float | None,
        typer.Option(help="What you divided pixels by for Keras: 255 for pixels / 255.", show_default=False),
    ] = None,
    shift: Annotated[float, typer.Option(help="What you subtracted before: 127.5 for pixels / 127.5 - 1.")] = 0.0,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Names of the classes, background first; or 0=background,255=cell."),
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="What model.to_json() wrote, where FILE has weights alone."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a model of a network that Keras saved; it predicts what it did there, on images of any size.

    Needs h5py (pip install h5py), and neither Keras nor TensorFlow. Nothing in the file is executed.

    [bold]Example:[/]  uvea import-keras model.keras --out model --scale 255
    """
    from uvea.workflows.import_keras import import_keras as run

    with listening(quiet=quiet) as listen:
        model = run(
            source,
            out=out,
            scale=scale,
            shift=shift,
            labels=_named_values(labels),
            architecture=architecture,
            overwrite=overwrite,
            listen=listen,
        )
    show.table(("decision", "value", "reason"), model.plan.rows())
    show.line("")
    _show_model(out)


@app.command()
@ended
def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="MASKS", help="Folder of predicted masks, one mask, or a CSV table of pairs.")
    ],
    reference: Annotated[
        Path | None,
        typer.Argument(metavar="REFERENCE", help="Folder of the masks that are right, or one mask; not with a table."),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for scores.csv, summary.json and report.html.")
    ] = None,
    labels: ScoredLabels = None,
    group: GroupTable = None,
    tolerance: Tolerance = 2.0,
    no_distances: NoDistances = False,
    instances: ScoredInstances = None,
    em_membranes: Membranes = False,
    em_threshold: Annotated[
        float, typer.Option(help="Probability from which a pixel is membrane.", rich_help_panel=MEASURE_PANEL)
    ] = 0.5,
    probabilities: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Probability maps: calibration and curves.", rich_help_panel=MEASURE_PANEL),
    ] = None,
    within: Within = None,
    ignore_value: Ignore = None,
    allow_missing: AllowMissing = False,
    allow_extra: AllowExtra = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Images for the report, if not beside the references.", rich_help_panel=PAIRING_PANEL
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Axes of the masks, such as zyx, if their files say it wrong.", rich_help_panel=PAIRING_PANEL
        ),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    max_pixels: MaxPixels = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score masks against a reference, also masks that uvea did not make: per case and class, with intervals.

    Files are paired by name. A class that is missing from both masks counts as perfect, from one of them as 0.

    The exit code is 2 when a case could not be scored; all others are scored and written all the same.

    [bold]Example:[/]  uvea evaluate masks reference --out scores

    [bold]Example:[/]  uvea evaluate pairs.csv --out scores --labels 0=background,1=liver,2=tumour --tolerance 1
    """
    from uvea.workflows.evaluate import IncompleteError
    from uvea.workflows.evaluate import evaluate as run

    failed: IncompleteError | None = None
    with listening(quiet=quiet) as listen:
        try:
            scores = run(
                predictions,
                reference,
                out=out,
                label_names=_named_values(labels),
                groups=group,
                tolerance=tolerance,
                distances=not no_distances,
                instances=instances,
                em_membranes=em_membranes,
                em_threshold=em_threshold,
                probabilities=probabilities,
                within=within,
                ignore_value=ignore_value,
                allow_missing=allow_missing,
                allow_extra=allow_extra,
                images=images,
                axes=axes,
                max_pixels=max_pixels,
                workers=workers,
                report=not no_report,
                overwrite=overwrite,
                listen=listen,
            )
        except IncompleteError as error:
            failed, scores = error, error.scores
    show.line(scores.table(width=show.columns()))
    if out is not None:
        show.line(f"scores in {out}")
    if failed is None:
        return
    for failure in scores.failures[:FAILURES_SHOWN]:
        show.user_error(failure.error)
    if len(scores.failures) > FAILURES_SHOWN:
        more = f"{len(scores.failures) - FAILURES_SHOWN} more cases could not be scored"
        show.error(more, hint="mend these first" if out is None else f"{out / 'summary.json'} lists all")
    raise typer.Exit(2)


@app.command()
@ended
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of masks, or scores that `uvea evaluate` wrote.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Likewise; the differences are B minus A.")],
    *,
    reference: Annotated[
        Path | None, typer.Option(help="Folder of the masks that are right; not needed for scores.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for compare.json and compare.csv.")] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B", help="Metrics to compare, such as dice,hd95; the usual ones if none.")
    ] = None,
    labels: ScoredLabels = None,
    group: GroupTable = None,
    tolerance: Tolerance = 2.0,
    no_distances: NoDistances = False,
    instances: ScoredInstances = None,
    em_membranes: Membranes = False,
    within: Within = None,
    ignore_value: Ignore = None,
    allow_missing: AllowMissing = False,
    allow_extra: AllowExtra = False,
    max_pixels: MaxPixels = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compare two models on the same cases: differences with intervals, and what can be said about them.

    Cases are compared one by one, because they differ more from each other than two models do on one case.

    [bold]Example:[/]  uvea compare masks-a masks-b --reference reference

    [bold]Example:[/]  uvea compare scores-a scores-b --metrics dice,hd95 --out comparison
    """
    from uvea.workflows.compare import compare_files as run

    with listening(quiet=quiet) as listen:
        result = run(
            first,
            second,
            reference=reference,
            out=out,
            metrics=[name.strip() for name in (metrics or "").split(",") if name.strip()],
            label_names=_named_values(labels),
            groups=group,
            tolerance=tolerance,
            distances=not no_distances,
            instances=instances,
            em_membranes=em_membranes,
            within=within,
            ignore_value=ignore_value,
            allow_missing=allow_missing,
            allow_extra=allow_extra,
            max_pixels=max_pixels,
            workers=workers,
            overwrite=overwrite,
            listen=listen,
        )
    show.line(result.table(width=show.columns()))
    if out is not None:
        show.line(f"comparison in {out}")


def _write_files(run: Callable[[Listener], list[Path]], out: Path, *, quiet: bool) -> None:
    """Let a workflow write files, and say how many; those that failed are told and make the exit code 2."""
    from uvea.workflows.pipeline import PartlyDoneError

    failed: PartlyDoneError | None = None
    with listening(quiet=quiet) as listen:
        try:
            written = run(listen)
        except PartlyDoneError as error:
            failed, written = error, error.written
    show.line(f"{len(written)} file{'' if len(written) == 1 else 's'} in {out}")
    if failed is not None:
        for failure in _gathered(failed.names, failed.failures):
            show.user_error(failure)
        show.user_error(failed)
        raise typer.Exit(2)


def _gathered(names: Sequence[str], failures: Sequence[UveaError]) -> Iterator[UveaError]:
    """The same errors, but one for all that have one way out where there are many."""
    alike: dict[tuple[type[UveaError], str], list[int]] = {}
    for number, failure in enumerate(failures):
        alike.setdefault((type(failure), failure.hint), []).append(number)
    for first, *others in alike.values():
        if len(others) < MOST_ALIKE:
            yield from (failures[number] for number in (first, *others))
            continue
        named = listed((names[number] for number in others), limit=NAMES_SHOWN)
        said = f"{failures[first].problem}; and {len(others)} more like it: {named}"
        yield UveaError(said, hint=failures[first].hint)


def _after(
    largest: str | None,
    min_size: str | None,
    fill_holes: str | None,
    *,
    gap: float | None,
    foreground: float | None,
    least: float | None,
    by_class: bool = True,
) -> dict[str, object]:
    """What the user says about masks behind the network; what was not said is not there."""
    kept = None if largest is None else () if largest.strip() == "none" else _words(largest)
    found = {
        "largest": kept,
        "min_size": _sizes("--min-size", min_size, by_class=by_class),
        "fill_holes": _sizes("--fill-holes", fill_holes, by_class=by_class),
        "gap": gap,
        "foreground": foreground,
        "least": least,
    }
    return {name: value for name, value in found.items() if value is not None}


def _sizes(option: str, text: str | None, *, by_class: bool) -> int | dict[str, int] | None:
    """Pixels: one number, or NAME=NUMBER for some classes; objects have no sizes `by_class`."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return int(text)
    sizes: dict[str, int] = {}
    for one in _words(text):
        name, equals, value = (part.strip() for part in one.partition("="))
        if not (name and equals and value.isdecimal()):
            raise OptionError(
                f"{option} has {one!r}, which is no number of pixels",
                hint=f"{option} 20" + (f", or of classes {option} liver=20,tumour=5" if by_class else ""),
            )
        sizes[name] = int(value)
    return sizes


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word for part in (text or "").split(",") if (word := part.strip()))


def _data_options(
    images: str | None,
    masks: str | None,
    axes: str | None,
    ignore_value: int | None,
    *,
    labels: str | None,
    instances: bool | None,
    skip: Sequence[str] | None,
    max_pixels: int | None,
) -> DataOptions:
    return DataOptions(
        images=images,
        masks=masks,
        axes=axes,
        ignore_value=ignore_value,
        label_names=_named_values(labels),
        instances=instances,
        skip=tuple(skip or ()),
        max_pixels=max_pixels,
    )


def _names(labels: str | None) -> tuple[str, ...]:
    if labels is None:
        return ()
    names = tuple(name.strip() for name in labels.split(","))
    if not all(names):
        raise OptionError(f"--labels {labels!r} has an empty name", hint="--labels background,cell")
    if len(set(names)) < len(names):
        raise OptionError(f"--labels {labels!r} has a name twice", hint="give every class its own name")
    return names


def _named_values(labels: str | None) -> tuple[str, ...] | dict[int, str]:
    """Names of the classes, or, from VALUE=NAME, mask values with their names."""
    names = _names(labels)
    if not any("=" in name for name in names):
        return names
    values: dict[int, str] = {}
    for one in names:
        value, equals, name = (part.strip() for part in one.partition("="))
        if not (equals and name and value.removeprefix("-").isdecimal()):
            hint = "name all values or none: --labels 0=background,255=cell, or --labels background,cell"
            raise OptionError(f"--labels has {one!r}, which is not VALUE=NAME", hint=hint)
        if int(value) in values:
            raise OptionError(f"--labels gives the value {value} twice", hint="give every value once")
        values[int(value)] = name
    return values


def _overrides(settings: Sequence[str] | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        name = name.strip()
        if not (name and equals):
            hint = "--set patch=256,256; `uvea plan DATA` lists the names"
            raise OptionError(f"--set {setting} is not NAME=VALUE", hint=hint)
        if name in values:
            raise OptionError(f"--set gives {name} twice: {values[name]} and {value.strip()}", hint="keep one of them")
        values[name] = value.strip()
    return values


def _refuse_beside_resume(context: typer.Context) -> None:
    """A resumed training is the one that was planned: nothing else can be asked of it."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in ("resume", "quiet") and source is not None and source.name == "COMMANDLINE":
            option = {"data": "DATA", "overrides": "--set"}.get(name, f"--{name.replace('_', '-')}")
            raise OptionError(
                f"{option} cannot be given together with --resume, which continues the training as it was planned",
                hint=f"leave {option} out, or train anew into another --out",
            )


@contextmanager
def _training(model: Path, *, resumed: bool = False) -> Iterator[None]:
    """Say how to go on with a training that was stopped, where it had begun."""
    before = _facts_stamp(model)
    try:
        yield
    except KeyboardInterrupt as by:
        now = _facts_stamp(model)
        if now is None:
            raise Interrupted("stopped before there was anything to continue from", by=by) from None
        if now == before and not resumed:  # of an older model, which --overwrite had not come to
            raise Interrupted(f"stopped before the training began; {model} is as it was", by=by) from None
        raise Interrupted(f"stopped; continue with: uvea train --resume {quote(str(model))}", by=by) from None
    except OutputError as error:
        now = _facts_stamp(model)
        if isinstance(error.__cause__, OSError) and now is not None and (resumed or now != before):
            again = f"then continue with: uvea train --resume {quote(str(model))}"
            raise OutputError(error.problem, hint=f"{error.hint}; {again}") from error
        raise


def _facts_stamp(model: Path) -> tuple[int, int] | None:
    """Tells one run.json, which `resume` starts from, from another; None where there is none."""
    try:
        found = (model / "run" / "run.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _show_model(model: Path) -> None:
    rows = [("model", str(model))]
    report = model / "report.html"
    if report.exists():
        rows.append(("report", str(report)))
    more = f" --axes {quote(axes)}" if (axes := _axes_said(model)) else ""
    rows.append(("next", f"uvea predict {quote(str(model))} IMAGES --out masks{more}"))
    show.facts(rows)


def _axes_said(model: Path) -> str | None:
    """The --axes of the training, which images like those of it need, too."""
    from uvea.workflows.kept import Kept

    try:
        return Kept.load(model / "run" / "run.json").options.axes
    except ModelError:
        return None
