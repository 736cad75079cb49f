"""The machine is measured as it is, and a number type is taken only if it is right."""

import ctypes
import os
import platform
from functools import partial

import pytest
import torch

from uvea.errors import PlanError
from uvea.models import device as module
from uvea.models.device import (
    choose_precision,
    describe_machine,
    find_device,
    free_on_gpu,
    keep_large_blocks,
    repeatable,
)
from uvea.models.unet import ConvBlock, UNet

CPU = torch.device("cpu")


def make(**settings):
    """A small seeded network."""
    torch.manual_seed(0)
    return UNet(**{"in_channels": 1, "classes": 2, "channels": (8, 8), **settings})


@pytest.fixture
def quick(monkeypatch):
    """Two timed trial steps instead of two seconds of them."""
    monkeypatch.setattr(module, "_TRIAL_SECONDS", 0.0)


def test_the_cpu_is_always_there():
    """By name, and as the answer where there is nothing else."""
    assert find_device("cpu") == CPU
    assert find_device().type in {"cpu", "mps", "cuda"}


@pytest.mark.parametrize("wanted", ["gpu", "", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(wanted):
    """Typos, and cards this machine does not have."""
    with pytest.raises(PlanError, match=f"no device '{wanted}'.*\n.*cpu"):
        find_device(wanted)


def test_a_gpu_is_asked_to_repeat_inside_of_the_block_only(monkeypatch):
    """Torch refuses what it cannot repeat; that is an error of ours, with the way out. A processor is left alone."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    with repeatable(CPU):
        assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with repeatable(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with (
        pytest.raises(PlanError, match="max_pool3d.*\n.*without --set deterministic"),
        repeatable(torch.device("cuda")),
    ):
        raise RuntimeError("max_pool3d_with_indices_backward_cuda does not have a deterministic implementation, but …")
    with pytest.raises(PlanError, match=r"start Python anew"), repeatable(torch.device("cuda")):
        raise RuntimeError("Deterministic behavior was enabled …, but this … set CUBLAS_WORKSPACE_CONFIG=:4096:8")
    with pytest.raises(RuntimeError, match="something else"), repeatable(torch.device("cuda")):
        raise RuntimeError("something else")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_machine_is_described_in_sane_numbers():
    """At least one core and some memory; no accelerator on the CPU."""
    machine = describe_machine(CPU)
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.memory_bytes > 2**20
    assert machine.processor
    assert machine.accelerator is None and machine.accelerator_memory_bytes is None


def test_what_torch_keeps_on_a_gpu_is_free_to_it(monkeypatch):
    """100 free, 60 - 20 kept for later; not what a CUDA graph keeps, nor what is kept on another GPU."""
    segments = [
        {"device": 0, "segment_pool_id": (0, 0), "total_size": 60, "active_size": 20},
        {"device": 0, "segment_pool_id": (0, 1), "total_size": 500, "active_size": 0},
        {"device": 1, "segment_pool_id": (0, 0), "total_size": 700, "active_size": 0},
    ]
    # As in torch 2.10, which has no other arguments.
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda mempool_id=None: segments)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    for name, free in (("cuda", 140), ("cuda:0", 140), ("cuda:1", 800)):
        assert free_on_gpu(torch.device(name)) == free
        assert describe_machine(torch.device(name)).accelerator_memory_bytes == free
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    assert free_on_gpu(torch.device("cuda")) == 100


def test_the_limit_of_a_container_counts(tmp_path):
    """1,000 allowed, 600 used of which 100 are files that can go: 500 are left, though the system has more."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:       8 kB\n")
    assert module._free_memory_bytes(tmp_path, meminfo) == 8192
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600\n")
    assert module._free_memory_bytes(tmp_path, meminfo) == 8192
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    assert module._free_memory_bytes(tmp_path, meminfo) == 500


def test_a_limit_on_addresses_counts_as_memory(tmp_path):
    """4,000 allowed, 3 kB taken; without a limit the system's memory counts."""
    (tmp_path / "meminfo").write_text("MemAvailable: 8 kB\n")
    (tmp_path / "status").write_text("VmPeak: 9 kB\nVmSize:        3 kB\n")
    for limit, free in (("unlimited", 8192), ("4000", 928)):
        (tmp_path / "limits").write_text(f"Max address space         {limit:<20} unlimited            bytes\n")
        assert module._free_memory_bytes(tmp_path, tmp_path / "meminfo", tmp_path) == free


def test_the_share_of_a_container_limits_the_cores(tmp_path):
    """Half a core is one core; "max" is no limit."""
    free = module._cores(tmp_path)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert module._cores(tmp_path) == free
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert module._cores(tmp_path) == 1


def test_keeping_large_blocks_says_whether_it_was_done(monkeypatch):
    """Options of glibc; elsewhere nothing happens."""
    asked = []

    class Library:
        """Stands for the C library and accepts everything."""

        @staticmethod
        def mallopt(option, value):
            """Note the option."""
            asked.append(option)
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert keep_large_blocks() and set(asked) == {-1, -2, -3}
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_large_blocks()


@pytest.mark.parametrize(("dims", "shape"), [(2, (2, 1, 32, 32)), (3, (1, 1, 8, 16, 16))])
def test_the_reason_for_a_precision_has_the_times(dims, shape, quick):
    """The choice is one of those that were timed, and bfloat16 passes the check of every layer."""
    network = make(dims=dims, norm="batch")
    before = torch.get_rng_state()
    precision = choose_precision(network, shape, CPU)
    assert precision.dtype in {"float32", "bfloat16"}
    assert set(precision.seconds) == {"float32", "float32 channels-last", "bfloat16 channels-last"}
    assert "refused" not in precision.reason
    assert f"float32 {precision.seconds['float32'] * 1000:.0f} ms" in precision.reason
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in network.parameters())
    assert network.encoder[0].norm1.running_mean.abs().sum() == 0


def test_a_layer_with_wrong_gradients_rules_bfloat16_out(quick, monkeypatch):
    """A convolution whose bfloat16 weight gradient is twice what it should be, as fast as it may be."""
    original = ConvBlock._convolve

    def wrong(self, *parts):
        made = original(self, *parts)
        if torch.is_autocast_enabled("cpu"):
            weight = self.conv1.weight
            made = made + 1e3 * (weight - weight.detach()).sum().to(made.dtype)
        return made

    monkeypatch.setattr(ConvBlock, "_convolve", wrong)
    precision = choose_precision(make(), (2, 1, 16, 16), CPU)
    assert precision.dtype == "float32"
    assert "bfloat16 channels-last refused: the gradient of encoder.0.conv1" in precision.reason


def test_a_number_type_that_a_device_cannot_do_is_refused(quick, monkeypatch):
    """A kernel that is missing is told; float32 is taken."""
    usual = module._trial_step

    def step(setting, *given, **named):
        if setting.dtype == "bfloat16":
            raise RuntimeError("FIND was unable to find an engine\nto execute this computation")
        usual(setting, *given, **named)

    monkeypatch.setattr(module, "_trial_step", step)
    precision = choose_precision(make(), (2, 1, 16, 16), CPU)
    assert precision.dtype == "float32"
    assert "bfloat16 channels-last refused: it fails (FIND was unable to find an engine to" in precision.reason


def test_a_whole_batch_is_timed_as_far_as_there_is_memory(quick):
    """Nine images, then four, then two, and parts of images at the end; what is wrong otherwise is raised."""
    tried = []

    def trials_of(images, room=2 * 16):
        tried.append(len(images))
        if images.numel() > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return {"float32": lambda: None}

    least = (2, 1, 2, 2)
    seconds, shape = module._time_whole(trials_of, (9, 1, 4, 4), CPU, least=least)
    assert tried == [9, 4, 2] and shape == (2, 1, 4, 4) and list(seconds) == ["float32"]
    assert module._time_whole(partial(trials_of, room=8), (9, 1, 4, 4), CPU, least=least)[1] == least
    with pytest.raises(torch.OutOfMemoryError):
        module._time_whole(partial(trials_of, room=7), (9, 1, 4, 4), CPU, least=least)
    with pytest.raises(RuntimeError, match="something else"):
        module._time_whole(lambda images: _raise(RuntimeError("something else")), (9, 1, 4, 4), CPU, least=least)


def test_a_slower_bfloat16_is_not_taken(quick, monkeypatch):
    """Speed decides among what is right."""
    times = {"float32": 1.0, "float32 channels-last": 0.99, "bfloat16 channels-last": 2.0}
    monkeypatch.setattr(module, "_time", lambda trials, device: times)
    precision = choose_precision(make(), (2, 1, 16, 16), CPU)
    assert (precision.dtype, precision.channels_last) == ("float32", False)
    times["bfloat16 channels-last"] = 0.5
    precision = choose_precision(make(), (2, 1, 16, 16), CPU)
    assert (precision.dtype, precision.channels_last) == ("bfloat16", True)


def test_an_unpadded_network_is_tried_at_its_own_size(quick):
    """Half of a size that works need not work."""
    precision = choose_precision(make(padding="valid", channels=(2, 2)), (4, 1, 190, 186), CPU)
    assert "2×1×190×186" in precision.reason


def _raise(error):
    raise error


def test_large_batches_are_tried_in_part():
    """Fewer images first, then shorter axes in whole strides; never fewer than two where there were two."""
    assert module._trial_shape((8, 3, 64, 64), (16, 16)) == (8, 3, 64, 64)
    assert module._trial_shape((16, 1, 256, 256), (16, 16)) == (2, 1, 128, 128)
    assert module._trial_shape((1, 1, 20, 320, 320), (4, 16, 16)) == (1, 1, 20, 32, 32)


def test_a_prepared_network_and_batch_are_channels_last():
    """Both in one layout, for images and volumes."""
    for dims, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        precision = module.Precision(dtype="bfloat16", channels_last=True, reason="")
        image = precision.prepare(torch.zeros(1, 2, *[4] * dims))
        network = precision.prepare(make(dims=dims, in_channels=2))
        assert image.is_contiguous(memory_format=layout)
        assert network.encoder[1].conv1.weight.is_contiguous(memory_format=layout)
        with precision.autocast(CPU):
            assert network(image).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("cores", "best", "tried", "taken"),
    [
        (8, 4, ["8 threads", "4 threads", "2 threads"], 4),
        (8, 8, ["8 threads", "4 threads", "2 threads"], 8),
        (3, 3, ["8 threads", "3 threads", "1 threads"], 3),
        (2, 2, ["8 threads", "2 threads"], 2),
    ],
)
def test_the_number_of_threads_is_the_fastest_of_those_tried(monkeypatch, cores, best, tried, taken):
    """Torch would take eight; a container with fewer cores, or small images, are better off with fewer."""
    now, asked = [8], []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: now.__setitem__(0, count))

    def timed(trials, device):
        asked.extend(trials)
        return {name: 1.0 + abs(int(name.split()[0]) - best) for name in trials}

    monkeypatch.setattr(module, "_time", timed)
    threads, why = module._choose_threads(lambda: None, CPU)
    assert (threads, asked, now) == (taken, tried, [8])
    assert f"{taken} threads: it takes 8 threads" in why


def test_whoever_set_the_number_of_threads_keeps_it(monkeypatch):
    """Nothing is timed then, nor where fewer cannot be faster."""
    monkeypatch.setattr(module, "_time", lambda trials, device: pytest.fail("timed"))
    monkeypatch.setattr(module, "_cores", lambda: 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert module._choose_threads(lambda: None, CPU) == (None, "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(module, "_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert module._choose_threads(lambda: None, CPU) == (None, "")
