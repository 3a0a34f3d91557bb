"""Measures ONNX Runtime: inference."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import measure

threads, cases = measure.arguments()
peer = measure.Peer("ONNX Runtime", ort.__version__, threads)


def graph(layers, batch):
    """Builds the graph that encodes to the mean, decodes and applies the sigmoid: four dense layers with
    constant weights."""
    (w1, b1), (wm, bm), _, (w3, b3), (w4, b4) = layers
    nodes, constants, value = [], [], "x"
    for i, (weight, bias, after) in enumerate(
        [(w1, b1, "Relu"), (wm, bm, None), (w3, b3, "Relu"), (w4, b4, "Sigmoid")]
    ):
        names = f"weight{i}", f"bias{i}"
        constants += [
            numpy_helper.from_array(np.ascontiguousarray(a), name)
            for a, name in zip((weight.T, bias), names)
        ]
        nodes.append(helper.make_node("Gemm", [value, *names], [f"dense{i}"]))
        value = f"dense{i}"
        if after:
            nodes.append(helper.make_node(after, [value], [f"after{i}"]))
            value = f"after{i}"
    shape = [batch, w1.shape[1]]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", value)]
    made = helper.make_graph(nodes, "reconstruct", ends[:1], ends[1:], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model, value


def infer(widths, batch):
    layers = measure.network(widths)
    model, result = graph(layers, batch)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = measure.binary((batch, widths[0]), 1)
    out = np.empty_like(x)
    binding = session.io_binding()
    # Bound once, so a call neither copies nor allocates its input and output.
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
    bound = ort.OrtValue.ortvalue_from_numpy(out)
    binding.bind_ortvalue_output(result, bound)
    session.run_with_iobinding(binding)
    assert np.allclose(bound.numpy(), measure.reconstruct(layers, x), atol=1e-5)
    peer.time(
        "infer", measure.shape_of(widths), batch, lambda: session.run_with_iobinding(binding)
    )


if "infer" in cases:
    for widths, batch in measure.INFER:
        infer(widths, batch)
