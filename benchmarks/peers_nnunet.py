"""Jobs for nnU-Net v2: its predictor over a network of ours, and its training on a dataset of its own format.

Everything is left as it comes, but for what a machine without a GPU asks for (device and number of processes) and
mirroring in prediction, which is off, as in the tools it is compared with.
"""

import json
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_data import Case, Clock, Pixels, normalised, read_cases, write_masks
from plain import load, load_plan

NAME = "Dataset001_Benchmark"

FEWEST = 3
"""Iterations that are timed, however long they take."""

SETTLING = 4
"""Iterations on a GPU before those that are measured: memory was given back before them."""


def predictor(*, model: str, image: str, out: str, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """A turn is one image in memory: normalised, `predict_sliding_window_return_logits`, the class.

    Args:
        model: a folder that uvea wrote; its network runs in plain PyTorch, its patch is the tile.
        image: .npy, (c, ...).
        out: .npy for the classes.
        device: of torch.
    """
    folder = Path(model)
    patch = load_plan(folder)["patch"]
    ours = _predictor(folder, device)
    pixels = np.load(image)

    def predict(array: Pixels) -> Pixels:
        given = torch.from_numpy(normalised(array))
        # A picture is a volume of one slice here.
        logits = ours.predict_sliding_window_return_logits(given[:, None] if given.ndim == 3 else given)
        found: Pixels = logits.argmax(0).to(torch.uint8).cpu().numpy()
        return found[0] if given.ndim == 3 else found

    predict(pixels[(slice(None), *(slice(0, n) for n in patch))] if device == "cpu" else pixels)
    _forget_memory(device)
    yield {"versions": versions(), "torch_threads": torch.get_num_threads()}
    while True:
        if device != "cpu":
            predict(pixels)  # so that the memory is there
        clock = Clock()
        clock.go()
        classes = predict(pixels)
        seconds, memory = clock.stop(), _device_memory(device)
        np.save(out, classes)
        _forget_memory(device)
        yield {"seconds": seconds, "pixels": classes.size, **memory}


def files(*, model: str, images: Sequence[str], out: str, axes: str) -> Iterator[dict[str, Any]]:
    """A whole job, `predict_from_files`, before it is ready."""
    ending = ".png" if axes == "yx" else ".nii.gz"
    from nnunetv2.configuration import default_num_processes as processes

    ours = _predictor(Path(model), "cpu")
    names = [str(Path(out) / Path(path).name.removesuffix(ending)) for path in images]
    ours.predict_from_files(
        [[path] for path in images],
        names,
        num_processes_preprocessing=processes,
        num_processes_segmentation_export=processes,
    )
    yield {"versions": versions()}


def curve(
    *, train: str, held: str, work: str, out: str, classes: int, seconds: Sequence[float], seed: int
) -> Iterator[dict[str, Any]]:
    """Plan, preprocess and train as the commands do; turns as in `peers_torch.curve`.

    The first turn comes after planning and the first iterations, whatever they take. The preparation belongs to
    the training: its seconds are in the clock.

    Args:
        train: cases, see `peer_data`.
        held: likewise.
        work: an empty folder.
        out: a file for the predictions, written anew in each turn.
        classes: background included.
        seconds: of planning and training when predictions are made, rising.
        seed: of everything random.
    """
    _set_folders(Path(work))
    np.random.seed(seed)
    torch.manual_seed(seed)
    held_cases = read_cases(held)
    dims = held_cases[0][2].ndim
    write_raw(Path(work) / "raw" / NAME, read_cases(train), classes)
    yield {"versions": versions(), "torch_threads": torch.get_num_threads()}
    clock = Clock()
    clock.go()
    trainer = prepared_trainer("2d" if dims == 2 else "3d_fullres", device="cpu")
    prepared = clock.now()
    step = 0
    for until in seconds:
        if step and clock.seconds >= until:
            continue
        if step:
            clock.go()
        while step < FEWEST or clock.now() < until:
            train_once(trainer, step)
            step += 1
        spent = clock.stop()
        yield {
            "seconds": spent,
            "step": step,
            "preparing_seconds": prepared,
            "iteration_seconds": (spent - prepared) / step,
            "patch": list(trainer.configuration_manager.patch_size),
            "batch": trainer.batch_size,
            "masks": write_masks(out, _held_back(trainer, held_cases)),
        }


def iterations(*, train: str, work: str, classes: int, steps: int, device: str) -> Iterator[dict[str, Any]]:
    """Each turn is `steps` iterations of nnU-Net's own training, its loader and augmentation included."""
    _set_folders(Path(work))
    cases = read_cases(train)
    write_raw(Path(work) / "raw" / NAME, cases, classes)
    trainer = prepared_trainer("2d" if cases[0][2].ndim == 2 else "3d_fullres", device=device)
    # As `nnUNetv2_train` does, which is left out here.
    torch.backends.cudnn.benchmark = device != "cpu"
    done = 0

    def train(count: int) -> None:
        nonlocal done
        for _ in range(count):
            train_once(trainer, done)
            done += 1

    train(3)
    _forget_memory(device)
    batch = trainer.batch_size
    patch = list(trainer.configuration_manager.patch_size)
    parameters = sum(weight.numel() for weight in trainer.network.parameters())
    yield {"versions": versions(), "parameters": parameters, "patch": patch, "batch": batch}
    while True:
        train(0 if device == "cpu" else SETTLING)
        clock = Clock()
        clock.go()
        train(steps)
        seconds, memory = clock.stop(), _device_memory(device)
        _forget_memory(device)
        yield {"seconds": seconds, "images": steps * batch, "steps": steps, **memory}


def _forget_memory(device: str) -> None:
    """What torch took of a GPU before does not count from here on, and is there for the next tool."""
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _device_memory(device: str) -> dict[str, int]:
    """What tensors had at most, and what torch held for them."""
    if device == "cpu":
        return {}
    taken, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"device_peak_bytes": taken, "device_reserved_peak_bytes": held}


def prepared_trainer(configuration: str, *, device: str) -> Any:
    """Do what `nnUNetv2_plan_and_preprocess` does, and what `nnUNetv2_train` does before its first iteration."""
    from nnunetv2.configuration import default_num_processes as processes
    from nnunetv2.experiment_planning import plan_and_preprocess_api as planning
    from nnunetv2.run.run_training import get_trainer_from_args

    planning.extract_fingerprints([1], num_processes=processes, check_dataset_integrity=False)
    plans = planning.plan_experiments([1])
    planning.preprocess([1], plans, configurations=[configuration], num_processes=[processes])
    trainer = get_trainer_from_args(NAME, configuration, fold="all", device=torch.device(device))
    trainer.disable_checkpointing = True
    trainer.on_train_start()
    return trainer


def train_once(trainer: Any, step: int) -> None:
    """One iteration as the trainer does it; a new epoch where one is due."""
    if step % trainer.num_iterations_per_epoch == 0:
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
    trainer.train_step(next(trainer.dataloader_train))


def write_raw(folder: Path, cases: Sequence[Case], classes: int) -> None:
    """A dataset as nnU-Net wants it: pictures as PNG, volumes as NIfTI of 1 mm."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    flat = cases[0][2].ndim == 2
    ending = ".png" if flat else ".nii.gz"
    for name, image, mask in cases:
        _write_image(folder / "imagesTr" / f"{name}_0000{ending}", image)
        _write_image(folder / "labelsTr" / f"{name}{ending}", mask[None])
    facts = {
        "channel_names": {str(i): f"channel {i}" for i in range(len(cases[0][1]))},
        "labels": {"background": 0, **{f"class {i}": i for i in range(1, classes)}},
        "numTraining": len(cases),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(facts))


def _write_image(path: Path, image: Pixels) -> None:
    if path.suffix == ".png":
        from skimage.io import imsave

        imsave(path, image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), check_contrast=False)
    else:
        import SimpleITK

        wanted = image[0] if image.dtype != np.bool_ else image[0].astype(np.uint8)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(wanted), str(path))


def _held_back(trainer: Any, cases: Sequence[Case]) -> list[tuple[str, Pixels]]:
    """Predictions by nnU-Net's own preprocessing and predictor."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    ours = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=trainer.device)
    ours.allow_tqdm = False
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    network = getattr(trainer.network, "_orig_mod", trainer.network)
    ours.manual_initialization(
        network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        None,
    )
    found = []
    for name, image, mask in cases:
        flat = mask.ndim == 2
        given = (image[:, None] if flat else image).astype(np.float32)
        made = ours.predict_single_npy_array(given, {"spacing": [999.0 if flat else 1.0, 1.0, 1.0]})
        found.append((name, made[0] if flat else made))
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    return found


def _predictor(model: Path, device: str) -> Any:
    """nnU-Net's predictor with the network of a model folder that uvea wrote."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    network = load(model)
    plan = load_plan(model)
    flat = plan["dims"] == 2
    names = plan["labels"]["names"]
    dataset = {
        "channel_names": {str(i): f"channel {i}" for i in range(len(plan["normalization"]))},
        "labels": {"background": 0, **{name: i for i, name in enumerate(names[1:], start=1)}},
        "file_ending": ".png" if flat else ".nii.gz",
    }
    manager = PlansManager(_plans(plan))
    ours = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=device != "cpu", device=torch.device(device)
    )
    ours.allow_tqdm = False
    configuration = manager.get_configuration("2d" if flat else "3d_fullres")
    weights = [network.state_dict()]
    ours.manual_initialization(network, manager, configuration, weights, dataset, "nnUNetTrainer", None)
    return ours


def _plans(plan: Any) -> dict[str, Any]:
    """As little of a plans file as its predictor reads."""
    flat = plan["dims"] == 2
    channels = len(plan["normalization"])
    spacing = [1.0, 1.0] if flat else [float(size) for size in plan["fingerprint"]["spacing_median"]]
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_2d" if flat else "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan["batch"],
        "patch_size": list(plan["patch"]),
        "spacing": spacing,
        # It is given the network, but asks for the name of one.
        "architecture": {"network_class_name": "plain.PlainUNet", "arch_kwargs": {}, "_kw_requires_import": []},
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
    }
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NaturalImage2DIO" if flat else "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(channels)},
        "configurations": {"2d" if flat else "3d_fullres": configuration},
    }


def _set_folders(work: Path) -> None:
    """Where nnU-Net looks for everything; read when it is first used."""
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)


def versions() -> dict[str, str]:
    """Of what is measured here."""
    return {"nnunetv2": version("nnunetv2"), "torch": str(torch.__version__)}
