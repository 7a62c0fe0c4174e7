"""Makes a detector's ONNX graph accept any number of pictures of any size."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


class GraphError(Exception):
    """A graph cannot be freed from its fixed input size."""


def fixed_input_size(model: onnx.ModelProto) -> tuple[int, int] | None:
    """(width, height) that the graph's first input (N, C, H, W) is fixed to; None if either is free."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if len(dims) != 4:
        raise GraphError(f"expected an image input of 4 axes (N, C, H, W), found {len(dims)} axes")
    height, width = dims[2].dim_value, dims[3].dim_value
    return (width, height) if width > 0 and height > 0 else None


def with_free_input_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an SCRFD graph whose input height and width (multiples of 32) are free, and with them the batch size.

    Four things tie such a graph to one size: the declared shapes; the Resize nodes of its feature pyramid, which name
    their output size although each doubles its input; the Reshape nodes of its outputs, which name a batch of 1; and
    stale shape notes inside. The rest of the graph is fully convolutional, so at the old size the outputs stay the
    same. A graph whose outputs have no axis for the batch keeps its batch of 1.
    Raises GraphError if a Resize does not double its input, or the result is not a valid model.
    """
    free = onnx.ModelProto()
    free.CopyFrom(model)
    graph = free.graph
    batched = all(len(output.type.tensor_type.shape.dim) == 3 for output in graph.output)
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        if axis or batched:
            _set_free(graph.input[0].type.tensor_type.shape.dim[axis], name)
    for output in graph.output:
        # The number of anchors, second to last of (batch, anchors, values) or (anchors, values), follows the size.
        _set_free(output.type.tensor_type.shape.dim[-2], f"{output.name}_anchors")
        if batched:
            _set_free(output.type.tensor_type.shape.dim[0], "batch")
    try:
        shapes = _shapes(onnx.shape_inference.infer_shapes(model, strict_mode=True))
        del graph.value_info[:]
        _double_instead_of_resizing(graph, shapes)
        if batched:
            _keep_batch_in_reshapes(graph)
        _drop_unused(graph)
        onnx.checker.check_model(free)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"the graph without its fixed size is not valid: {error}") from error
    return free


def _double_instead_of_resizing(graph: onnx.GraphProto, shapes: dict[str, list[int]]) -> None:
    constants = _constants(graph)
    resizes = [node for node in graph.node if node.op_type == "Resize" and len(node.input) == 4 and node.input[3]]
    for node in resizes:
        size = constants.get(node.input[3])
        if size is None:
            continue  # computed inside the graph, hence free already
        source = shapes.get(node.input[0])
        if source is None or size.tolist() != [*source[:2], *(2 * side for side in source[2:])]:
            raise GraphError(f"Resize node {node.name!r} goes from {source} to {size.tolist()}, expected a doubling")
        scales = f"{node.output[0]}_doubling"
        graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), scales))
        inputs = [node.input[0], node.input[1], scales]
        del node.input[:]
        node.input.extend(inputs)


def _keep_batch_in_reshapes(graph: onnx.GraphProto) -> None:
    constants = _constants(graph)
    for node in graph.node:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and shape.size == 3 and shape[:2].tolist() == [1, -1]:
            name = f"{node.output[0]}_shape"
            # 0 stands for the size that the input has on this axis
            graph.initializer.append(numpy_helper.from_array(np.array([0, -1, shape[2]], np.int64), name))
            node.input[1] = name


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return constants


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    values = [*model.graph.value_info, *model.graph.input]
    return {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}


def _set_free(dim: onnx.TensorShapeProto.Dimension, name: str) -> None:
    dim.ClearField("dim_value")
    dim.dim_param = name
