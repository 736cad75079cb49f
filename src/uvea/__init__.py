"""U-Nets for biomedical images: a folder of images and masks in, a trained network and masks out.

Everything a program needs is here; each name is imported when it is first used, so `import uvea`
is quick and starts no torch.

    model = uvea.train("data", out="model", minutes=10)
    mask = model.predict(image)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvea import metrics
    from uvea.datasets.case import DataOptions
    from uvea.errors import UveaError
    from uvea.images import Image, read, write
    from uvea.models import UNet
    from uvea.workflows.check import check
    from uvea.workflows.compare import compare_files as compare
    from uvea.workflows.evaluate import IncompleteError, evaluate
    from uvea.workflows.import_keras import import_keras
    from uvea.workflows.model import Model, load
    from uvea.workflows.predict import decode_files as decode
    from uvea.workflows.predict import predict_files as predict
    from uvea.workflows.train_arrays import train
    from uvea.workflows.verify import verify

__all__ = [
    "DataOptions",
    "Image",
    "IncompleteError",
    "Model",
    "UNet",
    "UveaError",
    "check",
    "compare",
    "decode",
    "evaluate",
    "import_keras",
    "load",
    "metrics",
    "predict",
    "read",
    "train",
    "verify",
    "write",
]

__version__ = "0.1.0"

_HOMES = {
    "DataOptions": ("uvea.datasets.case", "DataOptions"),
    "Image": ("uvea.images", "Image"),
    "IncompleteError": ("uvea.workflows.evaluate", "IncompleteError"),
    "Model": ("uvea.workflows.model", "Model"),
    "UNet": ("uvea.models", "UNet"),
    "UveaError": ("uvea.errors", "UveaError"),
    "check": ("uvea.workflows.check", "check"),
    "compare": ("uvea.workflows.compare", "compare_files"),
    "decode": ("uvea.workflows.predict", "decode_files"),
    "evaluate": ("uvea.workflows.evaluate", "evaluate"),
    "import_keras": ("uvea.workflows.import_keras", "import_keras"),
    "load": ("uvea.workflows.model", "load"),
    "metrics": ("uvea.metrics", ""),
    "predict": ("uvea.workflows.predict", "predict_files"),
    "read": ("uvea.images", "read"),
    "train": ("uvea.workflows.train_arrays", "train"),
    "verify": ("uvea.workflows.verify", "verify"),
    "write": ("uvea.images", "write"),
}
"""Public name to the module and the name in it; "" for the module itself."""


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'uvea' has no attribute {name!r}")
        module, attribute = _HOMES[name]
        home = import_module(module)
        value = getattr(home, attribute) if attribute else home
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
