"""The action path as ONNX graphs, in float32 and in smaller variants, with the runner beside."""

import copy
import hashlib
import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motus_adapters.deployment.policy import Policy
from motus_adapters.exports import runner
from motus_adapters.exports.action_path import Graph, graphs
from motus_adapters.exports.description import describe
from motus_adapters.exports.narrow import SMALLEST, Precision
from motus_adapters.exports.observed import Observed
from motus_embodiments import MissingError

OPSET = 20


def check_onnx() -> None:
    """Whether the packages are here that `write_onnx` needs.

    Raises:
        MissingError: One is not installed.
    """
    for name in ("onnx", "onnxruntime", "onnxscript"):  # torch's exporter imports the last one
        if find_spec(name) is None:
            raise MissingError(
                f"--format onnx needs the package {name}", hint="pip install 'motus-cli[onnx]'"
            )


def write_onnx(policy: Policy, folder: Path) -> None:
    """Write both graphs in all precisions, `runner.json` and `runner.py` into a folder.

    `int8` holds the weights of matrix products in 8 bits and quantises what they multiply as it
    comes; `bf16` stores weights in 16 bits and computes in 32.

    Raises:
        MissingError: onnx, onnxruntime or onnxscript is not installed.
        UsageError: The policy has no action path that can be exported (see `graphs`).
    """
    check_onnx()
    import onnx
    import onnxruntime.quantization as quantization  # type: ignore[import-untyped]

    files = []
    for graph in graphs(policy):
        whole = folder / f"{graph.name}.onnx"
        _export(graph, whole)
        logging.disable(logging.WARNING)  # it advises, on the root logger
        try:
            quantization.quantize_dynamic(
                whole,
                folder / f"{graph.name}.int8.onnx",
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            )
        finally:
            logging.disable(logging.NOTSET)
        onnx.save(_halved(onnx.load(whole)), folder / f"{graph.name}.bf16.onnx")
        files += [whole.name, f"{graph.name}.int8.onnx", f"{graph.name}.bf16.onnx"]
    shutil.copyfile(runner.__file__, folder / "runner.py")
    about = describe(policy)
    about["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files
    }
    (folder / "runner.json").write_text(json.dumps(about, indent=1) + "\n")


def _export(graph: Graph, path: Path) -> None:
    program = torch.onnx.export(
        graph.module,
        (),
        kwargs=graph.example,
        input_names=list(graph.example),
        output_names=list(graph.outputs),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    # Notes of the tracer hold paths of this machine, and the same policy gives the same bytes.
    for node in program.model.graph:
        node.metadata_props.clear()
    program.model.graph.metadata_props.clear()
    program.model.metadata_props.clear()
    program.save(path, external_data=False)


def _halved(model: Any) -> Any:
    """The same graph with its float32 weights stored as bfloat16, widened where they are used."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = copy.deepcopy(model)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        values = torch.from_numpy(numpy_helper.to_array(tensor).copy()).bfloat16()
        name = tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type = f"{name}.bf16", TensorProto.BFLOAT16
        tensor.dims.extend(values.shape)
        tensor.raw_data = values.view(torch.uint16).numpy().tobytes()
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    for at, node in enumerate(casts):
        model.graph.node.insert(at, node)
    onnx.checker.check_model(model)
    return model


def run_onnx(folder: Path, observed: Observed, precision: Precision) -> np.ndarray:
    """Normalised actions [n, t, a] that the exported graphs give for windows.

    Args:
        folder: From `write_onnx`.
        observed: The windows.
        precision: Which variant of them.
    """
    runs = runner.Runner(folder, precision)
    rows = []
    for canvas, state, task, seed in observed:
        noise = runner.draw_noise([seed], *runs.about["noise"])
        rows.append(runs.solve(canvas, runs.describe(state), task, noise))
    return np.concatenate(rows)
