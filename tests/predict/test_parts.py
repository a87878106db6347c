"""Parts made by hand: which of them run, for which inputs, and whose answer counts."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from exported_files import write_bundle
from onceforall.bundles import Part
from onceforall.predict import Predictor
from onceforall.predict.parts import certainty, run_parts, sigmoid, softmax


def test_later_parts_run_for_uncertain_inputs_only():
    seen = []
    first = Part(
        ("images",),
        ("features", "logits"),
        lambda v: {"features": 10 * v["images"][:, 0], "logits": v["images"] * [[1.0, 0.0]]},
    )

    def second_run(values):
        seen.append(len(values["features"]))
        return {"logits": np.stack([0 * values["features"], values["features"]], 1)}

    second = Part(("features",), ("logits",), second_run)
    images = np.array([[0.1], [5.0], [0.0], [9.0], [-0.2]], np.float32)
    logits, answered = run_parts([first, second], images, [0.9])
    assert answered.tolist() == [1, 0, 1, 0, 1] and seen == [3]
    np.testing.assert_allclose(logits[[1, 3]], [[5.0, 0.0], [9.0, 0.0]])
    np.testing.assert_allclose(logits[[0, 2, 4]], [[0.0, 1.0], [0.0, 0.0], [0.0, -2.0]], atol=1e-6)
    seen.clear()
    assert run_parts([first, second], images[[1, 3]], [0.9])[1].tolist() == [0, 0] and seen == []
    assert run_parts([first, second], images, [2.0])[1].tolist() == [1] * 5, "no probability is above 1"


def test_a_single_part_answers_with_the_weighted_sum_of_its_exits():
    both = Part(
        ("images",), ("logits_1", "logits_2"), lambda v: {"logits_1": v["images"], "logits_2": -3 * v["images"]}
    )
    images = np.array([[1.0, 2.0]], np.float32)
    logits, answered = run_parts([both], images, (), (0.25, 0.75))
    np.testing.assert_allclose(logits, -2 * images)
    assert answered.tolist() == [0] and logits.dtype == np.float32


def test_probabilities_by_hand():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_allclose(certainty(logits), [0.75, 1.0])
    np.testing.assert_allclose(sigmoid(np.array([0.0, np.log(3.0), -1000.0])), [0.5, 0.75, 0.0], atol=1e-12)


def chain():
    """Part 0: mean of the image, as it is and as logits (m, 0). Part 1: from that feature logits (0, 8 m)."""
    value, kind, opset = helper.make_tensor_value_info, TensorProto.FLOAT, [helper.make_opsetid("", 17)]

    def tensor(name, values):
        values = np.asarray(values, np.float32)
        return helper.make_tensor(name, kind, values.shape, values.ravel())

    first = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0, axes=[2, 3]),
            helper.make_node("Identity", ["mean"], ["features"]),
            helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        ],
        "first",
        [value("images", kind, ["batch", 1, 8, 8])],
        [value("features", kind, ["batch", 1]), value("logits", kind, ["batch", 2])],
        [tensor("w", [[1.0, 0.0]])],
    )
    second = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["logits"])],
        "second",
        [value("features", kind, ["batch", 1])],
        [value("logits", kind, ["batch", 2])],
        [tensor("w", [[0.0, 8.0]])],
    )
    return [helper.make_model(g, opset_imports=opset, ir_version=8).SerializeToString() for g in (first, second)]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_bundle_of_two_files(engine, tmp_path):
    pytest.importorskip(engine)
    preparation = {"channels": 1, "mean": [0.0], "std": [0.1], "fit": "stretch"}  # 0 to 10
    folder = write_bundle(
        tmp_path / "chain", chain(), 1, (8, 8), thresholds=[0.95], engine=engine, preparation=preparation
    )
    predictor = Predictor(folder, threads=1)
    images = [np.full((8, 8, 1), value, np.uint8) for value in (255, 25, 204, 0)]
    means = np.array([10.0, 250 / 255, 8.0, 0.0])
    probabilities, parts = predictor.classify(np.stack([predictor.prepare_image(image) for image in images]))
    assert parts.tolist() == [0, 1, 0, 1]
    first, second = 1 / (1 + np.exp(-means)), 1 / (1 + np.exp(8 * means))
    np.testing.assert_allclose(probabilities[:, 0], np.where(parts == 0, first, second), rtol=1e-4)
    np.testing.assert_allclose(predictor.predict_images(images), probabilities, rtol=1e-5)
