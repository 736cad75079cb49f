"""Networks in int8: calibrated on training patches, and used only if validation scores stay what they were.

run/run.json -> training patches -> quantise -> score the validation cases with both -> accept or refuse, and keep
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from uvea.datasets.case import Case, DataOptions
from uvea.datasets.discover import discover
from uvea.datasets.split import Split
from uvea.datasets.survey import read_image, read_mask
from uvea.durable import write_text
from uvea.errors import ModelError, OutputError
from uvea.evaluation import CaseScore, score_case, summarise
from uvea.inference import openvino_engine
from uvea.inference.engines import difference, import_quietly, kept, refuse_if_different, require, trial_patch
from uvea.inference.segment import Engine, segment
from uvea.inference.sliding_window import Network, labels_of
from uvea.inference.source import source_of
from uvea.models.device import describe_machine
from uvea.models.fold import for_tracing
from uvea.models.settle import settler
from uvea.plan.decoding import Decoding
from uvea.plan.plan import Plan
from uvea.plan.prepare import encode_truth
from uvea.workflows.engines import name_of, openvino_precision, whole_strides
from uvea.workflows.events import Listener, Message, Progress
from uvea.workflows.kept import Kept
from uvea.workflows.objects import Grid, find_objects, pooled, score_objects
from uvea.workflows.postprocessing import of_model
from uvea.workflows.workspace import Workspace

MOST_LOST = {"Dice": 0.002, "mean AP": 0.005}
"""What int8 may cost on the validation cases: of Dice, mean over cases and classes, and of the mean AP of objects."""

PATCHES = 48
"""Training patches that the ranges of activations are measured on."""

ROOM = 0.01
"""How much further from PyTorch int8 may be on another processor than on the one where it was accepted."""


def int8_network(
    space: Workspace,
    number: int,
    network: nn.Module,
    plan: Plan,
    *,
    run: Workspace,
    listen: Listener,
) -> Network:
    """The network of `space` in int8, run by OpenVINO; made, tried and kept the first time.

    Args:
        space: where it is kept.
        number: of its split in the run, from 0.
        network: with its weights, in float32 on the CPU.
        plan: of the model.
        run: whose run.json names the data.
        listen: told how far it is.

    Raises:
        ModelError: if packages or data are missing, or if int8 loses more than `MOST_LOST`; with the figures.
    """
    require("openvino")
    version = str(import_quietly("openvino").__version__)
    precision = openvino_precision(plan)
    folder = space.run / "engines" / name_of("int8", version, network)
    tiles = trial_patch(plan.channels, whole_strides(plan))

    def make(draft: Path) -> dict[str, object]:
        require("int8")
        cases, split, options = _data_of(run, number)
        listen(Message(f"quantising the network to int8, once, with {PATCHES} patches of the training cases"))
        patches = _patches([cases[name] for name in split.train], plan, options=options)
        model = openvino_engine.convert(for_tracing(network), tiles)
        openvino_engine.save(openvino_engine.quantise(model, patches), draft / "network.xml")
        small = openvino_engine.compile_for_cpu(draft / "network.xml", precision=precision)
        validation = [cases[name] for name in split.val]
        decoding = of_model([space], plan).decoding

        def score(network: Network, task: str) -> Mapping[str, float]:
            return _scores(network, validation, plan, decoding=decoding, options=options, task=task, listen=listen)

        before, after = score(network.eval(), "scoring the network"), score(small, "scoring it in int8")
        return {
            **before,
            **{f"{name} in int8": value for name, value in after.items()},
            "validation cases": len(validation),
            "mean difference": difference(network.eval(), small, tiles).mean,
        }

    facts = kept(folder, make)
    for name in MOST_LOST if plan.task == "objects" else ("Dice",):
        before, after = (float(str(facts.get(key, "nan"))) for key in (name, f"{name} in int8"))
        if not before - after <= MOST_LOST[name]:
            raise ModelError(
                f"int8 is refused: it lowers the {name} of {facts['validation cases']} validation cases from "
                f"{before:.4f} to {after:.4f}, by more than {MOST_LOST[name]}",
                hint=f"predict without --int8; to try again, remove {folder}",
            )
        listen(
            Message(f"int8: {name} {after:.4f} on {facts['validation cases']} validation cases, {before:.4f} without")
        )
    processor = hashlib.sha256(describe_machine().processor.encode()).hexdigest()[:8]
    cache = folder / f"compiled-{processor}"
    small = openvino_engine.compile_for_cpu(folder / "network.xml", precision=precision, cache=cache)
    # Compiling makes the folder, so that being there says nothing.
    checked = cache / "checked"
    if not checked.exists():
        most = float(str(facts["mean difference"])) + ROOM
        refuse_if_different(difference(network.eval(), small, tiles), f"OpenVINO {version} in int8", most=most)
        with suppress(OSError, OutputError):  # a model may lie where nothing can be written
            cache.mkdir(exist_ok=True)
            write_text(checked, "")
    return small


def _data_of(space: Workspace, number: int) -> tuple[Mapping[str, Case], Split, DataOptions]:
    """The cases that a run was made with, how they were split, and what was said about their files."""
    why = "int8 needs the training images to calibrate, and the validation cases to see what it costs"
    try:
        run = Kept.load(space.run_facts)
    except ModelError as error:
        raise ModelError(
            f"{error.problem}; {why}", hint="give the folder that `uvea train` wrote, or predict without --int8"
        ) from None
    if not run.source.exists():
        raise ModelError(
            f"the data of {space.folder} is no longer at {run.source}; {why}",
            hint="move it back there, or predict without --int8",
        )
    cases = {case.name: case for case in discover(run.source, options=run.options).cases}
    split = run.splits[number]
    if gone := [name for name in (*split.train, *split.val) if name not in cases]:
        raise ModelError(
            f"{gone[0]} is no longer in {run.source} (of {len(gone)} such cases); {why}",
            hint="move them back there, or predict without --int8",
        )
    return cases, split, run.options


def _patches(cases: Sequence[Case], plan: Plan, *, options: DataOptions) -> list[NDArray[np.float32]]:
    """Patches at random places, from cases spread evenly over all; the same ones every time."""
    rng = np.random.default_rng(0)
    size = whole_strides(plan)
    chosen = [cases[int(i)] for i in np.linspace(0, len(cases) - 1, min(PATCHES, len(cases)))]
    patches = []
    for turn, case in enumerate(chosen):
        source = source_of(
            read_image(case, axes=options.axes, max_pixels=options.max_pixels), plan, where=str(case.images[0])
        )
        for _ in range(turn, PATCHES, len(chosen)):
            starts = [int(rng.integers(max(length - n, 0) + 1)) for length, n in zip(source.shape, size, strict=True)]
            where = [slice(start, start + n) for start, n in zip(starts, size, strict=True)]
            if source.slices is not None:
                at = int(rng.integers(source.slices))
                where = [slice(at, at + 1), *where]
            patches.append(source.read([tuple(where)], torch.device("cpu"))[0].numpy())
    return patches


def _scores(
    network: Network,
    cases: Sequence[Case],
    plan: Plan,
    *,
    decoding: Decoding | None,
    options: DataOptions,
    task: str,
    listen: Listener,
) -> Mapping[str, float]:
    """Scores of validation cases, as `uvea train` gives them, by the names of `MOST_LOST`."""
    # A network of torch is scored as it predicts: its norms have seen the whole image.
    engine = Engine(device=torch.device("cpu"), channels_last=False, settler=partial(settler, autocast=nullcontext))
    rows: list[CaseScore] = []
    for done, case in enumerate(cases):
        listen(Progress(task, done, len(cases)))
        assert case.mask is not None
        image = read_image(case, axes=options.axes, max_pixels=options.max_pixels)
        turn = Grid.of(image).turn(plan)
        image, mask = turn.image(image), read_mask(case.mask, axes=options.axes, max_pixels=options.max_pixels)
        truth = encode_truth(turn.mask(mask), plan, where=str(case.mask))
        found = segment([network], image, plan, engine=engine, where=str(case.images[0]))
        if decoding is not None:
            grid = Grid.of(image)
            how = decoding.on(grid.share(plan))
            objects = find_objects(found.numpy(), how, classes=plan.classes, grid=grid)
            rows += score_objects(case.name, truth, objects, names=plan.labels.names, group=case.group)
        else:
            rows += score_case(case.name, truth, labels_of(found), names=plan.labels.names, group=case.group)
    listen(Progress(task, len(cases), len(cases)))
    summary = summarise(rows, resamples=0)
    dice = {"Dice": float(summary.dice.mean)}
    return dice if decoding is None else {**dice, "mean AP": float(pooled(summary, "mean_ap"))}
