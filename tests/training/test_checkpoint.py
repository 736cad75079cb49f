"""A run that continues from a file ends where an unbroken run ends."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from uvea.errors import ModelError
from uvea.models.weights import read_weights, save_weights
from uvea.training.average import Average
from uvea.training.checkpoint import pack, unpack
from uvea.training.loop import Hooks, Progress, train
from uvea.training.muon import Muon

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


class Parts:
    """Network with batch norm, optimizer and average of one run."""

    def __init__(self, *, layout=torch.contiguous_format, optimizer="adamw", seed=0, decay=0.9):
        torch.manual_seed(seed)
        self.network = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 6, 3, padding=1),
            nn.Conv2d(6, 2, 1),
        ).to(memory_format=layout)
        self.layout = layout
        wide = [weight for weight in self.network.parameters() if weight.ndim > 1]
        flat = [weight for weight in self.network.parameters() if weight.ndim <= 1]
        groups = [{"params": wide, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}]
        self.optimizer = {
            "muon": lambda: Muon(self.network, lr=0.01, weight_decay=0.1),
            "adamw": lambda: torch.optim.AdamW(groups, lr=0.01, fused=True),
            "sgd": lambda: torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True),
        }[optimizer]()
        self.average = Average(self.network, decay) if decay else None

    def train(self, progress, *, stop_at=None):
        """Train on batches that depend on the step alone."""

        def batch(step, steps):
            rng = torch.Generator().manual_seed(step)
            images = torch.randn(2, 3, 6, 6, generator=rng)
            return images.to(memory_format=self.layout), (images.sum(1) > 0).long()

        hooks = Hooks(
            batch=batch,
            loss=nn.functional.cross_entropy,
            learning_rate=lambda step, steps: 0.02 * (1 - step / steps),
            after_step=(lambda: self.average.update(self.network)) if self.average else (lambda: None),
            validate=lambda: float(-self.network[0].weight.detach().square().sum()),
            save=lambda progress, best: None,
            listen=lambda progress, loss: None,
            stop=lambda: progress.step == stop_at,
        )
        return train(self.network, self.optimizer, hooks, progress=progress, autocast=nullcontext, clip=1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_a_resumed_run_equals_an_unbroken_run_to_the_last_bit(tmp_path, layout, optimizer):
    """Twelve steps, against five, a file, and seven in parts of another seed; weights, statistics and average."""
    how = {"layout": LAYOUTS[layout], "optimizer": optimizer}
    unbroken, first, second = Parts(**how), Parts(**how), Parts(**how, seed=1)
    whole = unbroken.train(Progress(steps=12))

    progress = first.train(Progress(steps=12), stop_at=5)
    assert progress.step == 5
    save_weights(tmp_path / "c.safetensors", *pack(first.network, first.optimizer, first.average, progress))
    loaded = unpack(read_weights(tmp_path / "c.safetensors"), second.network, second.optimizer, second.average)
    assert loaded == progress
    ended = second.train(loaded)

    for name, tensor in unbroken.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
    for name, tensor in unbroken.average.weights_of().items():
        assert torch.equal(tensor, second.average.weights_of()[name]), name
    assert ended.best_score == whole.best_score
    assert [row["score"] for row in ended.history] == [row["score"] for row in whole.history]


def test_optimizer_state_gets_the_layout_of_its_weight():
    """The file has one layout; the fused optimizer needs that of the weights."""
    first, second = (Parts(layout=torch.channels_last) for _ in range(2))
    first.train(Progress(steps=1))
    tensors, words = pack(first.network, first.optimizer, first.average, Progress())
    plain = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    unpack((plain, words), second.network, second.optimizer, second.average)
    weight = second.network[0].weight
    assert second.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_a_run_without_average_or_steps_comes_back(tmp_path):
    """At the very start there is no optimizer state, and the score is minus infinity."""
    parts = Parts(decay=0)
    save_weights(tmp_path / "c.safetensors", *pack(parts.network, parts.optimizer, None, Progress()))
    progress = unpack(read_weights(tmp_path / "c.safetensors"), parts.network, parts.optimizer, None)
    assert progress == Progress()


def broken(change):
    """A checkpoint after `change(tensors, words)`."""
    parts = Parts()
    parts.train(Progress(steps=1))
    tensors, words = pack(parts.network, parts.optimizer, parts.average, Progress())
    change(tensors, words)
    return tensors, words


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, words: words.pop("progress"),
        lambda tensors, words: words.update(progress="{"),
        lambda tensors, words: words.update(progress="[]"),
        lambda tensors, words: words.update(progress='{"step": 1}'),
        lambda tensors, words: words.update(progress=words["progress"].replace('"step": 0', '"step": "0"')),
        lambda tensors, words: words.update(progress=words["progress"].replace('"step": 0', '"step": -1')),
        lambda tensors, words: words.update(progress=words["progress"].replace('"every": null', '"every": 0')),
        lambda tensors, words: words.update(progress=words["progress"].replace("[]", '[{"step": 1}]', 1)),
        lambda tensors, words: words.update(progress=words["progress"].replace("{", '{"more": 1, ', 1)),
        lambda tensors, words: tensors.pop("network.0.weight"),
        lambda tensors, words: tensors.update({"network.0.weight": torch.zeros(1)}),
        lambda tensors, words: tensors.update({"network.9.weight": torch.zeros(1)}),
        lambda tensors, words: tensors.update({"optimizer.99.exp_avg": torch.zeros(1)}),
        lambda tensors, words: tensors.update({"optimizer.x.exp_avg": torch.zeros(1)}),
        lambda tensors, words: tensors.update({"optimizer.nothing": torch.zeros(1)}),
        lambda tensors, words: tensors.update({"optimizer.0.exp_avg": torch.zeros(2, 2)}),
        lambda tensors, words: tensors.pop("average.updates"),
        lambda tensors, words: tensors.update({"average.updates": torch.tensor([1, 2])}),
        lambda tensors, words: tensors.update({"average.updates": torch.tensor(float("nan"))}),
        lambda tensors, words: tensors.update({"average.updates": torch.tensor(-10)}),
        lambda tensors, words: tensors.pop("optimizer.0.exp_avg"),
        lambda tensors, words: tensors.update({"optimizer.0.step": torch.tensor(float("nan"))}),
        lambda tensors, words: tensors.update({"network.0.weight": tensors["network.0.weight"].to(torch.complex64)}),
        lambda tensors, words: tensors.update({"optimizer.0.exp_avg": tensors["optimizer.0.exp_avg"].to(torch.int8)}),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(change):
    """In one error of ours, whatever is wrong with it."""
    parts = Parts()
    with pytest.raises(ModelError, match="does not fit"):
        unpack(broken(change), parts.network, parts.optimizer, parts.average)
