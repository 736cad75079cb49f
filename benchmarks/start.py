"""Make the weights that trainings of objects start from: learnt from synthetic objects alone.

python benchmarks/start.py                 # about 75 minutes on two cores; writes src/uvea/models/objects-2.safetensors
python benchmarks/start.py --steps 200 --images 50 --out trial.safetensors
"""

import argparse
import tempfile
from pathlib import Path

import torch

import uvea
from uvea.datasets.synthetic import write_dataset
from uvea.models.weights import read_weights, save_weights
from uvea.plan.start import OBJECTS

VALIDATED = 40
"""Images besides, that say how well it went."""

SEED = 20_261_129
OUT = Path(__file__).parents[1] / "src" / "uvea" / "models" / f"{OBJECTS}.safetensors"


def main() -> None:
    """Draw images, train on them, keep the last weights in half precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000, help="synthetic images of 256×256 (default: 8000)")
    parser.add_argument("--steps", type=int, default=20000, help="batches of eight patches of 128×128 (default: 20000)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the images (default: {SEED})")
    parser.add_argument("--out", type=Path, default=OUT, help="where the weights go")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data, model = Path(folder) / "data", Path(folder) / "model"
        for part, count, seed in (("train", given.images, given.seed), ("val", VALIDATED, given.seed + 1)):
            write_dataset(data / part, kind="objects", count=count, seed=seed, instances=True)
        uvea.train(data, out=model, steps=given.steps, overrides={"start": "random", "patch": "128,128", "batch": "8"})
        print((model / "history.csv").read_text())
        weights, _ = read_weights(model / "last.safetensors")
    save_weights(given.out, {name: weight.to(torch.float16) for name, weight in weights.items()})
    print(f"wrote {given.out}, {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
