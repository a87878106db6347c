"""What tests of exporting share: short timing, and one traced network."""

import pytest

from export_networks import IMAGES, tiny_network
from onceforall.exporting import verifying
from onceforall.exporting.inputs import plain_copy
from onceforall.exporting.onnx_model import to_onnx


@pytest.fixture(autouse=True, scope="session")
def quick_timing():
    """Latency is measured, but not well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "IN_TURN", {"warmup_seconds": 0.0, "min_runs": 1, "max_seconds": 0.0, "rounds": 1})
        yield


@pytest.fixture(scope="session")
def tiny():
    """(network, its ONNX graph, which nobody changes) of `tiny_network`."""
    copy, architecture = plain_copy(tiny_network())
    return copy, to_onnx(copy, architecture, IMAGES.shape[1:])
