"""What is refused before anything is written, and what is said when memory ends."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from onceforall.data import VolumeData, VolumePreparation
from onceforall.data.dataset import DataSet
from onceforall.errors import UserError
from onceforall.search_space import SearchSpace
from onceforall.supernets.supernet import Freeze
from onceforall.training.checkpoint import save_network
from onceforall.training.guards import _check_views, check_run, least_part, memory_guard
from onceforall.training.options import RunOptions
from onceforall.training.phases import Teacher
from tiny_runs import one_phase, run, striped, two_stages

DATA = striped(60)  # 42 images to train
SUPERNET = two_stages()
PHASE = one_phase(SUPERNET.space)
LARGER = two_stages(depths=(1, 2, 3)).space
OTHER = SearchSpace.build(2, resolutions=(16, 24), kernel_sizes=(3, 7), expand_ratios=(3, 4, 6), depths=(1, 2))


def test_what_can_be_trained_is_left_alone():
    check_run(SUPERNET, [PHASE], DATA, RunOptions(), processes=1)
    carried = replace(PHASE, name="next", optimizer_state="carry", teacher=Teacher("previous_phase"))
    check_run(SUPERNET, [PHASE, carried], DATA, RunOptions(micro_batches=8), processes=4)
    check_run(SUPERNET, [PHASE, replace(PHASE, name="larger", space=LARGER)], DATA, RunOptions(), processes=1)


@pytest.mark.parametrize(
    ("options", "phase", "expected"),
    [
        ({"num_classes": 4}, {}, r"teacher .*saved.safetensors has num_classes 4 and the supernet 3"),
        ({"in_channels": 3}, {}, r"teacher .*saved.safetensors has in_channels 3 and the supernet 1"),
        ({}, {"exit_weights": (0.5, 0.5)}, r"exit_weights \(0.5, 0.5\) of the teacher .*saved.safetensors: .* 1 exit"),
    ],
)
def test_a_saved_teacher_must_fit(tmp_path, options, phase, expected):
    path = tmp_path / "saved.safetensors"
    save_network(two_stages(**options), path, {})
    taught = replace(PHASE, teacher=Teacher(str(path), **phase))
    with pytest.raises(UserError, match=expected):
        check_run(SUPERNET, [taught], DATA, RunOptions(), processes=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("phases", "changes", "expected"),
    [
        ([], {}, "the schedule has no phase"),
        ([PHASE, PHASE], {}, "names of phases must differ, got only, only"),
        ([replace(PHASE, teacher=Teacher("first"))], {}, "'only', has no phase before it"),
        ([replace(PHASE, teacher=Teacher("previous_phase"))], {}, "'only', has no phase before it"),
        (
            [replace(PHASE, space=OTHER)],
            {},
            "phase 'only' trains architectures that the supernet does not have: .*kernel_size 3, 7.* 5 is missing",
        ),
        (
            [replace(PHASE, space=LARGER), replace(PHASE, name="next", space=OTHER)],
            {},
            "phase 'next' trains architectures that the supernet does not have: .* is missing",
        ),
        (
            [PHASE, replace(PHASE, name="next", optimizer="adam", optimizer_state="carry")],
            {},
            "'carry' of phase 'next'.*'adam' cannot go on with the state of 'sgd' in phase 'only'",
        ),
        (
            [replace(PHASE, exit_loss_weights=(0.5, 0.5))],
            {},
            r"exit_loss_weights \(0.5, 0.5\) of phase 'only': must be 1 number.* to 1, .* of the exits: 2",
        ),
        ([replace(PHASE, exit_output_weights=(0.9,))], {}, r"exit_output_weights \(0.9,\) of phase 'only'"),
        (
            [PHASE, replace(PHASE, name="next", teacher=Teacher("first", exit_weights=(0.2, 0.8)))],
            {},
            r"exit_weights of the teacher \(0.2, 0.8\) of phase 'next'",
        ),
        ([replace(PHASE, teacher=Teacher("nothing.safetensors"))], {}, "nothing.safetensors"),
        (
            [replace(PHASE, freeze=Freeze(inner_kernels=5))],
            {},
            "inner_kernels 5 of phase 'only': freezing them needs kernel_rule 'rings'.* has 'transform'",
        ),
        (
            [replace(PHASE, freeze=Freeze(inner_kernels=9))],
            {},
            "inner_kernels 9 of phase 'only': its kernel sizes are 3, 5",
        ),
        ([PHASE], {"micro_batches": 3, "processes": 2}, "micro_batches 3: must be a multiple of the 2 processes"),
        ([PHASE], {"micro_batches": 9}, "micro_batches 9: cuts the 16 images of a step of phase 'only'"),
        ([replace(PHASE, batch_size=500)], {"micro_batches": 22}, "cuts the 42 images"),
    ],
)
def test_what_could_not_be_trained_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, phases, changes, expected
):
    options = RunOptions(micro_batches=changes.get("micro_batches", 1))
    with pytest.raises(UserError, match=expected) as error:
        check_run(SUPERNET, phases, DATA, options, changes.get("processes", 1))
    assert "\n" not in str(error.value)
    if "processes" not in changes:
        with pytest.raises(UserError, match=expected):
            run(tmp_path / "run", phases, supernet=two_stages(), data=DATA, micro_batches=options.micro_batches)
    assert not list(tmp_path.iterdir())


def test_patches_of_several_sizes_have_no_native_teacher():
    preparation = VolumePreparation(1, box=None)
    data = VolumeData.__new__(VolumeData)
    data._preparation = preparation
    phase = replace(PHASE, teacher=Teacher("in_place", input="native"))
    with pytest.raises(UserError, match="'native' of phase 'only': patches of several sizes .*'student'"):
        _check_views(phase, data)
    _check_views(replace(phase, resolutions=(24,)), data)
    _check_views(replace(phase, teacher=Teacher("in_place")), data)
    data._preparation = replace(preparation, box=(48, 48, 48))
    _check_views(phase, data)


def test_data_that_do_not_suit():
    for split in ("train", "validation"):
        data = striped(60)
        data._members[split] = np.array([], np.int64)
        with pytest.raises(UserError, match="'train' and 'validation'"):
            check_run(SUPERNET, [PHASE], data, RunOptions(), 1)
    with pytest.raises(UserError, match="the supernet has 5 classes and the data 3"):
        check_run(two_stages(num_classes=5), [PHASE], DATA, RunOptions(), 1)


# -- memory ------------------------------------------------------------------------------------------------------------

FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype(np.float32)),
    MemoryError(),
]


def of(count, inputs="images"):
    """Data with so many training inputs."""
    return cast(DataSet, SimpleNamespace(inputs=inputs, count=lambda split: count))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
def test_the_end_of_memory_names_sizes_to_try(failure):
    with pytest.raises(UserError) as error, memory_guard(replace(PHASE, batch_size=64), RunOptions(), of(1000)):
        raise failure
    message = str(error.value)
    assert "phase 'only', batch_size 64, micro_batches 1 (64 images at a time)" in message
    assert "micro_batches=2 (32 images at a time) or micro_batches=4 (16 images at a time)" in message
    assert "\n" not in message and error.value.__cause__ is failure


@pytest.mark.parametrize(
    ("batch", "parts", "images", "advice"),
    [
        (64, 4, 1000, "micro_batches=8 (8 images at a time) or micro_batches=16 (4 images at a time)"),
        (64, 1, 20, "micro_batches=2 (10 images at a time) or micro_batches=4 (5 images at a time)"),
        (4, 1, 1000, "micro_batches=2 (2 images at a time);"),
        (3, 1, 1000, "batch_size=2 with"),
        (64, 32, 1000, "batch_size=32 with"),
    ],
)
def test_the_advice_can_be_followed(batch, parts, images, advice):
    with (
        pytest.raises(UserError) as error,
        memory_guard(replace(PHASE, batch_size=batch), RunOptions(micro_batches=parts), of(images)),
    ):
        raise MemoryError
    assert advice in str(error.value)


@pytest.mark.parametrize(
    ("batch", "advice"), [(2, "micro_batches=2 (1 volumes at a time);"), (1, "smaller resolutions or widths;")]
)
def test_volumes_may_be_alone_in_their_part(batch, advice):
    with (
        pytest.raises(UserError) as error,
        memory_guard(replace(PHASE, batch_size=batch), RunOptions(), of(9, "volumes")),
    ):
        raise MemoryError
    assert advice in str(error.value)


@pytest.mark.parametrize("failure", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyboardInterrupt()])
def test_anything_else_passes(failure):
    with pytest.raises(type(failure)) as error, memory_guard(PHASE, RunOptions(), of(10)):
        raise failure
    assert error.value is failure


@pytest.mark.parametrize(
    ("inputs", "resolution", "least"),
    [("images", 16, 2), ("volumes", 16, 1), ("volumes", 4, 2), ("volumes", (4, 4, 4), 2), ("volumes", (4, 8, 4), 1)],
)
def test_a_volume_may_be_alone_unless_its_deepest_map_is_one_voxel(inputs, resolution, least):
    """Two poolings divide each axis by 4."""
    space = SearchSpace.build(5, resolutions=(32, resolution), depths=(1,), kernel_sizes=(3,), widths=(1.0,))
    data = cast(DataSet, SimpleNamespace(inputs=inputs))
    assert least_part(space, data) == least
