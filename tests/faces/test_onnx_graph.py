from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from dfer.faces.model_files import detector_file
from dfer.faces.onnx_graph import GraphError, fixed_input_size, with_free_input_size


@pytest.fixture(scope="module")
def scrfd() -> onnx.ModelProto:
    return onnx.load(detector_file("scrfd-2.5g"))


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_a_freed_detector_gives_the_same_outputs_at_its_old_size(scrfd: onnx.ModelProto) -> None:
    freed = with_free_input_size(scrfd)
    assert fixed_input_size(scrfd) == (640, 640)
    assert fixed_input_size(freed) is None
    picture = np.random.default_rng(0).normal(0, 1, (1, 3, 640, 640)).astype(np.float32)
    before_and_after = (session(model).run(None, {"input.1": picture}) for model in (scrfd, freed))
    for before, after in zip(*before_and_after, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_freed_detector_takes_other_sizes(scrfd: onnx.ModelProto) -> None:
    picture = np.zeros((1, 3, 192, 320), np.float32)
    outputs = session(with_free_input_size(scrfd)).run(None, {"input.1": picture})
    anchors = [2 * (192 // stride) * (320 // stride) for stride in (8, 16, 32)]
    assert [output.shape for output in outputs] == [(1, n, width) for width in (1, 4, 10) for n in anchors]
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        session(scrfd).run(None, {"input.1": picture})


def one_resize(factor: int, *, constant_node: bool = False) -> onnx.ModelProto:
    source = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    target = helper.make_tensor_value_info("large", TensorProto.FLOAT, [1, 3, 64 * factor, 64 * factor])
    size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 3, 64 * factor, 64 * factor])
    nodes = [helper.make_node("Resize", ["image", "", "", "size"], ["large"], name="up")]
    if constant_node:
        nodes.insert(0, helper.make_node("Constant", [], ["size"], value=size))
    graph = helper.make_graph(nodes, "g", [source], [target], [] if constant_node else [size])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("constant_node", [False, True])
def test_only_a_doubling_can_be_freed(constant_node: bool) -> None:
    freed = with_free_input_size(one_resize(2, constant_node=constant_node))
    (large,) = session(freed).run(None, {"image": np.zeros((1, 3, 32, 96), np.float32)})
    assert large.shape == (1, 3, 64, 192)
    with pytest.raises(GraphError, match="expected a doubling"):
        with_free_input_size(one_resize(3, constant_node=constant_node))


def test_a_model_without_an_image_input_is_refused() -> None:
    vector = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [vector], [vector])
    with pytest.raises(GraphError, match="4 axes"):
        fixed_input_size(helper.make_model(graph))
