"""Jobs for plain PyTorch and MONAI, each as its own documentation shows it.

MONAI's recipes are those of its tutorials: BasicUNet with patches of 96×96, four per image and two images a step,
Adam at 0.001 (2d_segmentation/torch/unet_training_dict.py); DynUNet with SGD at 0.01, momentum 0.99, weight decay 3e-5
and deep supervision (modules/dynunet_pipeline). Both with DiceCELoss here.

On a GPU cuDNN tries its kernels and keeps the fastest, as PyTorch's guide to performance says and MONAI's bundles do.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peer_data import Case, Clock, normalised, read_cases, write_masks
from plain import WIDTHS, load, load_plan, standard
from torch import Tensor, nn
from torch.nn import functional

SETTLING = 4
"""Steps on a GPU before those that are measured: memory was given back before them."""

Loss = Callable[[Any, Tensor], Tensor]


def plain_steps(
    *,
    dims: int,
    shape: Sequence[int],
    steps: int,
    device: str = "cpu",
    autocast: bool = False,
    channels_last: bool = False,
    widths: Sequence[int] = WIDTHS,
) -> Iterator[dict[str, Any]]:
    """A plain loop over random data with the network of the `standard` preset; a turn is `steps` steps.

    Args:
        dims: 2 or 3.
        shape: of a batch, (b, c, ...).
        steps: in a turn.
        device: of torch.
        autocast: run the forward pass in bfloat16.
        channels_last: lay the channels of a pixel side by side in memory, as PyTorch's guide says for autocast.
        widths: channels of each level.
    """
    network = standard(dims, in_channels=shape[1], channels=widths)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    yield from _steps(
        network,
        optimizer,
        _dice_and_cross_entropy,
        shape,
        steps=steps,
        device=device,
        autocast=autocast,
        channels_last=channels_last,
    )


def monai_steps(
    *,
    kind: str,
    dims: int,
    shape: Sequence[int],
    steps: int,
    device: str = "cpu",
    autocast: bool = False,
    widths: Sequence[int] = WIDTHS,
) -> Iterator[dict[str, Any]]:
    """The same loop with a network of MONAI's, `kind` BasicUNet or DynUNet, of equal widths, and its DiceCELoss."""
    from monai.losses import DiceCELoss

    network = monai_network(kind, dims, channels=shape[1], classes=2, widths=widths)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    with_channel: Loss = lambda logits, labels: loss(logits, labels[:, None])  # noqa: E731
    yield from _steps(network, optimizer, with_channel, shape, steps=steps, device=device, autocast=autocast)


def _steps(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    shape: Sequence[int],
    *,
    steps: int,
    device: str,
    autocast: bool,
    channels_last: bool = False,
) -> Iterator[dict[str, Any]]:
    _choose_kernels(device)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(tuple(shape), generator=rng).to(device)
    labels = torch.randint(0, 2, (shape[0], *shape[2:]), generator=rng).to(device)
    network.to(device).train()
    if channels_last:
        layout = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
        images, network = images.to(memory_format=layout), network.to(memory_format=layout)  # type: ignore[call-overload]

    def turn(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
                cost: Any = loss(network(images), labels)
            cost.backward()
            optimizer.step()
        _wait(device)

    turn(1)
    _forget_memory(device)
    yield {
        "parameters": _size(network),
        "versions": versions(),
        "torch_threads": torch.get_num_threads(),
        "runs_in": f"{'bfloat16' if autocast else _float32(device)}{' channels-last' if channels_last else ''}",
        "manner": "eager",
    }
    while True:
        turn(0 if device == "cpu" else SETTLING)
        clock = Clock()
        clock.go()
        turn(steps)
        seconds, memory = clock.stop(), _device_memory(device)
        _forget_memory(device)
        yield {"seconds": seconds, "images": steps * shape[0], "steps": steps, **memory}


def monai_network(
    kind: str, dims: int, *, channels: int, classes: int, widths: Sequence[int] = WIDTHS, deep: bool = False
) -> nn.Module:
    """BasicUNet or DynUNet with their default norm and activation."""
    from monai.networks import nets

    if kind == "BasicUNet":
        basic: nn.Module = nets.BasicUNet(
            spatial_dims=dims, in_channels=channels, out_channels=classes, features=(*widths, widths[0])
        )
        return basic
    levels = len(widths)
    dynamic: nn.Module = nets.DynUNet(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=classes,
        kernel_size=[3] * levels,
        strides=[1, *[2] * (levels - 1)],
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(widths),
        deep_supervision=deep,
        deep_supr_num=2 if deep else 1,
    )
    return dynamic


def sliding_window(
    *,
    model: str,
    image: str,
    out: str,
    roi: Sequence[int],
    overlap: float | Sequence[float],
    mode: str,
    batch: int,
    device: str = "cpu",
) -> Iterator[dict[str, Any]]:
    """MONAI's `sliding_window_inference`; a turn is one image in memory, from normalisation to classes.

    Args:
        model: a folder that uvea wrote; its network runs in plain PyTorch.
        image: .npy, (c, ...).
        out: .npy for the classes.
        roi: size of the window.
        overlap: of windows, as a share.
        mode: "constant" or "gaussian".
        batch: windows at once.
        device: of torch.
    """
    _choose_kernels(device)
    network = load(Path(model)).to(device)
    pixels = np.load(image)
    predict = _sliding(network, roi=roi, overlap=overlap, mode=mode, batch=batch, device=device)
    predict(pixels[(slice(None), *(slice(0, n) for n in roi))] if device == "cpu" else pixels)
    _forget_memory(device)
    runs_in = "float32" if device == "cpu" else "float16"
    yield {"versions": versions(), "torch_threads": torch.get_num_threads(), "runs_in": runs_in}
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


def monai_files(*, model: str, images: Sequence[str], out: str, axes: str) -> Iterator[dict[str, Any]]:
    """A whole job by MONAI's means before it is ready: load, normalise, slide with its defaults, choose, save."""
    from monai.transforms import Compose, LoadImage, NormalizeIntensity, SaveImage

    folder = Path(model)
    network, plan = load(folder), load_plan(folder)
    # The reader turns axes around: (x, y) and (x, y, z).
    read = Compose([LoadImage(image_only=True, ensure_channel_first=True), NormalizeIntensity(channel_wise=True)])
    extension = ".png" if axes == "yx" else ".nii.gz"
    save = SaveImage(out, output_postfix="", output_ext=extension, separate_folder=False, print_log=False)
    predict = _sliding(network, roi=plan["patch"], overlap=0.25, mode="constant", batch=4, device="cpu", scale=False)
    for path in images:
        image = read(path)
        turned = image.permute(0, *reversed(range(1, image.ndim)))
        classes = torch.from_numpy(predict(turned.numpy()))
        back = classes.permute(*reversed(range(classes.ndim)))[None]
        save(back if axes == "zyx" else back * 255, meta_data=image.meta)
    yield {"versions": versions()}


def _sliding(
    network: nn.Module,
    *,
    roi: Sequence[int],
    overlap: float | Sequence[float],
    mode: str,
    batch: int,
    device: str,
    scale: bool = True,
) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    from monai.inferers import sliding_window_inference

    def predict(pixels: NDArray[Any]) -> NDArray[np.uint8]:
        given = torch.from_numpy(normalised(pixels) if scale else np.ascontiguousarray(pixels))[None].to(device)
        with torch.no_grad(), torch.autocast(device, enabled=device != "cpu"):
            logits = sliding_window_inference(given, roi, batch, network, overlap=overlap, mode=mode)
        assert isinstance(logits, Tensor)
        found: NDArray[np.uint8] = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
        return found

    return predict


def curve(
    *,
    kind: str,
    train: str,
    held: str,
    out: str,
    classes: int,
    patch: Sequence[int],
    seconds: Sequence[float],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """MONAI's recipe; each turn ends after so many `seconds` of training, with predictions for the held-back cases.

    Args:
        kind: BasicUNet or DynUNet; it decides the recipe.
        train: cases, see `peer_data`.
        held: likewise.
        out: a file for the predictions, written anew in each turn.
        classes: background included.
        patch: spatial size of a training patch, multiples of 16.
        seconds: of training when predictions are made, rising.
        seed: of everything random.
    """
    from monai.losses import DiceCELoss
    from monai.utils import set_determinism

    set_determinism(seed)
    torch.use_deterministic_algorithms(False)  # asked for by nobody's recipe
    cases, held_cases = read_cases(train), read_cases(held)
    batches = _monai_batches(cases, patch)
    deep = kind == "DynUNet"
    network = monai_network(kind, len(patch), channels=len(cases[0][1]), classes=classes, deep=deep)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer: torch.optim.Optimizer
    if deep:
        weights = network.parameters()
        optimizer = torch.optim.SGD(weights, lr=1e-2, momentum=0.99, weight_decay=3e-5, nesterov=True)
    else:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    predict = _sliding(network, roi=patch, overlap=0.25, mode="constant", batch=4, device="cpu", scale=False)
    yield {"parameters": _size(network), "versions": versions(), "torch_threads": torch.get_num_threads()}
    clock, step = Clock(), 0
    for until in seconds:
        clock.go()
        network.train()
        while clock.now() < until:
            images, labels = next(batches)
            optimizer.zero_grad()
            found = network(images)
            # Of DynUNet's stack of outputs, each counts half as much as the one before it.
            outputs = torch.unbind(found, 1) if deep else (found,)
            cost = sum((0.5**i * loss(output, labels) for i, output in enumerate(outputs)), torch.zeros(()))
            cost.backward()
            optimizer.step()
            step += 1
        spent = clock.stop()
        network.eval()
        masks = [(name, predict(normalised(image))) for name, image, _ in held_cases]
        yield {"seconds": spent, "step": step, "masks": write_masks(out, masks)}


def _monai_batches(cases: Sequence[Case], patch: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of two images with four patches each, by MONAI's own transforms and loader."""
    from monai.data import CacheDataset, DataLoader, list_data_collate
    from monai.transforms import Compose, RandCropByPosNegLabeld, RandFlipd, RandRotate90d, SpatialPadd

    both = ["image", "label"]
    steps: list[Any] = [
        SpatialPadd(keys=both, spatial_size=patch),
        RandCropByPosNegLabeld(keys=both, label_key="label", spatial_size=patch, pos=1, neg=1, num_samples=4),
    ]
    if len(patch) == 2:
        steps.append(RandRotate90d(keys=both, prob=0.5, spatial_axes=(0, 1)))
    else:
        steps += [RandFlipd(keys=both, prob=0.5, spatial_axis=axis) for axis in range(3)]
    items = [
        {"image": torch.from_numpy(normalised(image)), "label": torch.from_numpy(mask[None].astype(np.int64))}
        for _, image, mask in cases
    ]
    dataset = CacheDataset(items, Compose(steps), progress=False)
    # Loading in this process: with two cores, workers would take them from the network.
    loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=0, collate_fn=list_data_collate)
    while True:
        for batch in loader:
            yield batch["image"].as_tensor(), batch["label"].as_tensor()


def versions() -> dict[str, str]:
    """Of what is measured here, as far as it is installed."""
    found: dict[str, str] = {"torch": str(torch.__version__)}
    try:
        import monai

        found["monai"] = monai.__version__
    except ModuleNotFoundError:
        pass
    return found


def _dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss that uvea's step has here, as one would write it down."""
    shares = logits.softmax(1)
    wanted = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
    axes = tuple(range(2, logits.ndim))
    common = 2 * (shares * wanted).sum(axes) + 1e-5
    dice = common / (shares.sum(axes) + wanted.sum(axes) + 1e-5)
    return functional.cross_entropy(logits, labels) + 1 - dice.mean()


def _size(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _choose_kernels(device: str) -> None:
    """Have cuDNN try its kernels on the first batch and keep the fastest, in all of this process."""
    if device != "cpu":
        torch.backends.cudnn.benchmark = True


def _float32(device: str) -> str:
    """As torch computes it, unless told otherwise."""
    return "float32" if device == "cpu" else "float32 (TF32 convolutions)"


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


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
