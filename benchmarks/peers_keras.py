"""Jobs for Keras 3 on TensorFlow: the two-level U-Net of 148,353 parameters, trained as a tutorial does.

`fit` as it comes: Adam with its default rate, binary cross-entropy (cross-entropy over a softmax for more classes),
batches of 32, images of 128×128 between 0 and 1, no augmentation.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peer_data import Case, Clock, Pixels, read_cases, write_masks

BATCH = 32


def fit(*, data: str) -> Iterator[dict[str, Any]]:
    """Each turn is an epoch of `fit` over (n, y, x, 1) images and masks, after one that warms up."""
    import keras

    with np.load(data) as file:
        images, masks = file["images"], file["masks"]
    network = two_levels(images.shape[1], channels=images.shape[-1], classes=2)
    network.fit(images, masks, batch_size=BATCH, epochs=1, verbose=0)
    yield {"parameters": network.count_params(), "versions": versions(), "backend": keras.backend.backend()}
    while True:
        clock = Clock()
        clock.go()
        network.fit(images, masks, batch_size=BATCH, epochs=1, verbose=0)
        yield {"seconds": clock.stop(), "images": len(images)}


def curve(
    *, train: str, held: str, out: str, classes: int, side: int, how: str, epochs: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Each turn is an epoch, with the predictions for the held-back cases; the clock stands still for those.

    Args:
        train: cases, see `peer_data`; volumes are taken slice by slice.
        held: likewise.
        out: a file for the predictions, written anew in each turn.
        classes: background included; 2 are trained with one sigmoid.
        side: of the square images that the network gets.
        how: "resize" makes each image that size, "cut" cuts it into tiles, "pad" fills it up with zeros.
        epochs: after which the job ends.
        seed: of everything random.
    """
    import keras

    keras.utils.set_random_seed(seed)
    cases = read_cases(train)
    pieces = [_pieces(image, side, how) for _, image, _ in cases]
    images = np.concatenate([_scaled(found, image) for found, (_, image, _) in zip(pieces, cases, strict=True)])
    labels = np.concatenate([_pieces(mask[None], side, how, nearest=True) for _, _, mask in cases])
    network = two_levels(side, channels=images.shape[-1], classes=classes)
    targets = labels.astype(np.float32) if classes == 2 else labels
    held_cases = read_cases(held)
    yield {"parameters": network.count_params(), "versions": versions(), "images": len(images)}
    clock = Clock()
    for epoch in range(epochs):
        clock.go()
        network.fit(images, targets, batch_size=BATCH, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
        seconds = clock.stop()
        masks = [(case[0], _predicted(network, case, side=side, how=how, classes=classes)) for case in held_cases]
        yield {"seconds": seconds, "step": epoch + 1, "masks": write_masks(out, masks)}


def two_levels(side: int, *, channels: int, classes: int) -> Any:
    """The two-level U-Net of many courses, compiled as they do: 64, 64 | pool | up, join | 64, 64 | 1.

    Args:
        side: of the square images.
        channels: of the images.
        classes: background included; 2 get one sigmoid.
    """
    import keras
    from keras import layers

    def conv(before: Any) -> Any:
        return layers.Conv2D(64, 3, padding="same", activation="relu")(before)

    given = keras.Input((side, side, channels))
    top = conv(conv(given))
    low = layers.UpSampling2D()(layers.MaxPooling2D()(top))
    last = conv(conv(layers.Concatenate()([low, top])))
    if classes == 2:
        made = layers.Conv2D(1, 1, activation="sigmoid")(last)
        loss = "binary_crossentropy"
    else:
        made = layers.Conv2D(classes, 1, activation="softmax")(last)
        loss = "sparse_categorical_crossentropy"
    network = keras.Model(given, made)
    network.compile(optimizer="adam", loss=loss)
    return network


def versions() -> dict[str, str]:
    """Of what is measured here."""
    import keras
    import tensorflow

    return {"keras": keras.__version__, "tensorflow": tensorflow.__version__}


def _scaled(pieces: NDArray[np.float32], image: Pixels) -> NDArray[np.float32]:
    """To [0, 1]: bytes by 255, everything else by the largest value of its image."""
    largest = 255.0 if image.dtype == np.uint8 else max(float(image.max()), 1e-8)
    return pieces / np.float32(largest)


def _slices(image: Pixels) -> Pixels:
    """(c, y, x) or (c, z, y, x) to (n, y, x, c)."""
    stack = image[:, None] if image.ndim == 3 else image
    return np.moveaxis(stack, 0, -1)


def _pieces(image: Pixels, side: int, how: str, *, nearest: bool = False) -> NDArray[np.float32]:
    """(n, side, side, c) float32 out of one image; of a mask with `nearest`."""
    stack = _slices(image).astype(np.float32)
    if how == "resize":
        return _resized(stack, (side, side), "nearest" if nearest else "bilinear")
    rows, columns = (-(-length // side) for length in stack.shape[1:3])
    missing = [(0, rows * side - stack.shape[1]), (0, columns * side - stack.shape[2])]
    # Tiles go on by reflection, which looks like an image; around small slices there is nothing.
    padded = np.pad(stack, [(0, 0), *missing, (0, 0)], mode="symmetric" if how == "cut" else "constant")
    cut = padded.reshape(len(stack), rows, side, columns, side, -1).swapaxes(2, 3)
    return cut.reshape(-1, side, side, stack.shape[-1])


def _joined(pieces: NDArray[np.float32], shape: Sequence[int], side: int, how: str) -> NDArray[np.float32]:
    """Probabilities (n, side, side, k) back to (slices, y, x, k) on the grid of the image."""
    if how == "resize":
        return _resized(pieces, shape[-2:], "bilinear")
    rows, columns = (-(-length // side) for length in shape[-2:])
    whole = pieces.reshape(-1, rows, columns, side, side, pieces.shape[-1]).swapaxes(2, 3)
    whole = whole.reshape(len(whole), rows * side, columns * side, -1)
    return whole[:, : shape[-2], : shape[-1]]


def _resized(stack: NDArray[np.float32], size: Sequence[int], method: str) -> NDArray[np.float32]:
    import tensorflow

    found: NDArray[np.float32] = tensorflow.image.resize(stack, size, method=method).numpy()
    return found


def _predicted(network: Any, case: Case, *, side: int, how: str, classes: int) -> NDArray[np.uint8]:
    _, image, truth = case
    pieces = _scaled(_pieces(image, side, how), image)
    found = _joined(np.asarray(network.predict(pieces, batch_size=BATCH, verbose=0)), truth.shape, side, how)
    labels = found[..., 0] > 0.5 if classes == 2 else found.argmax(-1)
    return labels.astype(np.uint8).reshape(truth.shape)
