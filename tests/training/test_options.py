"""How a run is carried out: defaults hold together, and a wrong value is one clear line."""

from dataclasses import fields

import pytest
import torch

from onceforall.errors import UserError
from onceforall.training import loop
from onceforall.training.options import PRECISIONS, RunOptions


def test_defaults():
    options = RunOptions()
    assert (options.seed, options.micro_batches, options.precision) == (0, 1, "fp32")
    assert loop.RunOptions is RunOptions
    assert {"fp64": None, "fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16} == PRECISIONS


@pytest.mark.parametrize(
    "changes", [{"max_minutes": 0}, {"max_minutes": 0.5}, {"validation_images": 1}, {"threads": 1}]
)
def test_what_may_be(changes):
    assert RunOptions(**changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "bf61"}, "Did you mean 'bf16'"),
        ({"balance": "class"}, "Did you mean 'classes'"),
        ({"calibration_rule": "mean"}, "'reference', 'population'"),
        *[({name: 0}, f"{name} 0: must be") for name in ("micro_batches", "checkpoint_every", "calibration_images")],
        *[({name: 0}, f"{name} 0: must be") for name in ("validation_images", "threads")],
        *[({name: -1}, f"{name} -1: must be") for name in ("seed", "random_validation", "max_minutes", "threads")],
        *[({f.name: "2"}, f"{f.name} '2'") for f in fields(RunOptions) if f.type in ("int", int)],
        ({"micro_batches": None}, "micro_batches None"),
        ({"micro_batches": True}, "micro_batches True"),
        ({"micro_batches": 2.0}, "micro_batches 2.0"),
        ({"calibration_images": 1}, "at least 2"),  # batch normalisation needs two
        ({"max_minutes": float("nan")}, "max_minutes nan"),
        ({"validation_images": 2.5}, "validation_images 2.5"),
    ],
)
def test_what_may_not_be(changes, expected):
    with pytest.raises(UserError, match=expected) as error:
        RunOptions(**changes)
    assert "\n" not in str(error.value)
