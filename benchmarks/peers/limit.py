"""The machine's own limit: the best rate of a matrix product that this very run sees, by library and number type.

Sizes: a large square one, and the model's own largest (tokens × width by width × 4·width). Floating-point operations a
second, two for each multiply-add.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from work import Shape

__all__ = ["Products"]

_SQUARE = 2048
_SETTLE_S = 0.3
_TIMES = 3


class Products:
    """Products to be run once a round; `best` keeps the highest rate of each."""

    def __init__(self, shape: Shape, device: str, threads: int) -> None:
        """Builds what the libraries here can do."""
        sizes = {(_SQUARE, _SQUARE, _SQUARE), (shape.tokens, shape.width, shape.mlp)}
        self._runs: dict[tuple[str, str], list[tuple[float, Callable[[], object]]]] = {}
        for m, k, n in sorted(sizes):
            for (library, number), run in _products(m, k, n, device, threads):
                self._runs.setdefault((library, number), []).append((2.0 * m * k * n, run))
        self.best: dict[str, dict[str, float]] = {}

    def run_once(self) -> None:
        """Each product a few times, once the last one's threads rest: they spin a while, and halve the next."""
        for (library, number), runs in self._runs.items():
            known = self.best.setdefault(number, {})
            for flops, run in runs:
                time.sleep(_SETTLE_S)
                known[library] = max(known.get(library, 0.0), *(flops / _seconds(run) for _ in range(_TIMES)))

    def limit(self, number: str) -> float | None:
        """The best of all libraries, None where none has this number type."""
        return max(self.best.get(number, {}).values(), default=None)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _products(m: int, k: int, n: int, device: str, threads: int) -> list[tuple[tuple[str, str], Callable[[], object]]]:
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device == "cuda":
        types["fp16"] = torch.float16
    found: list[tuple[tuple[str, str], Callable[[], object]]] = []
    for number, kind in types.items():
        a, b = (torch.randn(rows, columns).to(device, kind) for rows, columns in ((m, k), (k, n)))
        found.append((("torch", number), lambda a=a, b=b: (a @ b)[0, 0].item()))  # type: ignore[misc]
    if device == "cpu":
        found += [(("onnxruntime", number), _onnx_product(m, k, n, number, threads)) for number in ("fp32", "int8")]
    return found


def _onnx_product(m: int, k: int, n: int, number: str, threads: int) -> Callable[[], object]:
    """A session with one product, the second factor constant, as weights are; only one number comes back."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    if number == "int8":
        a, b = generator.integers(0, 255, (m, k), np.uint8), generator.integers(-127, 127, (k, n), np.int8)
        kind, node, result = TensorProto.UINT8, "MatMulInteger", TensorProto.INT32
    else:
        a, b = (generator.standard_normal(size, np.float32) for size in ((m, k), (k, n)))  # type: ignore[assignment]
        kind, node, result = TensorProto.FLOAT, "MatMul", TensorProto.FLOAT
    nodes = [helper.make_node(node, ["a", "b"], ["c"]), helper.make_node("ReduceMax", ["c"], ["out"], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("a", kind, [m, k])],
        [helper.make_tensor_value_info("out", result, [])],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})
