"""The software that runs a network: torch, or OpenVINO on the processor; both run the same pieces in the same tiles."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import local
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from floemap.errors import ConfigError, ModelError, how_to_install, known_names
from floemap.learning.models.base import SegmentationModel
from floemap.learning.whole_scene.pieces import Network, Piece, Precision, choose_precision, prepare_network
from floemap.warned import without_warnings

Engine = Literal["torch", "openvino"]


@dataclass(frozen=True)
class Computation:
    """Software, precision and hardware of a computation.

    Attributes
    ----------
    device
        Name of the device in torch.
    hardware
        Name of the GPU; "" for the processor.
    threads
        Number of processor threads.
    """

    engine: Engine
    precision: Literal["fp32", "bf16"]
    device: str
    hardware: str
    threads: int


def make_network(
    model: SegmentationModel, engine: Engine = "torch", precision: Precision = "auto", device: str = "auto"
) -> tuple[Network, Computation]:
    """Return a copy of a model that is ready to predict, and how it computes.

    Parameters
    ----------
    engine
        "torch", or "openvino", which must be installed and runs on the processor only.
    precision
        "fp32", "bf16", or "auto": bf16 where processor or GPU has instructions for it.
    device
        "cpu", "cuda", "cuda:1", or "auto": the GPU if there is one.

    Raises
    ------
    ConfigError
        If there is no such engine, precision or device, or the engine is not installed.
    ModelError
        If the engine cannot run the model.
    """
    where, chosen = choose_computation(engine, precision, device)
    if engine == "openvino":
        network = _in_openvino(prepare_network(model, where, "fp32"), chosen)
    else:
        network = prepare_network(model, where, chosen)
    hardware = torch.cuda.get_device_name(where) if where.type == "cuda" else ""
    return network, Computation(engine, chosen, str(where), hardware, torch.get_num_threads())


def choose_computation(
    engine: Engine, precision: Precision, device: str
) -> tuple[torch.device, Literal["fp32", "bf16"]]:
    """Return device and precision of a computation; parameters and ConfigError as of :func:`make_network`."""
    if engine not in get_args(Engine):
        raise ConfigError(f"there is no engine {engine!r}.", hint=known_names(engine, get_args(Engine)))
    where = choose_device(device, "cpu" if engine == "openvino" else None)
    if engine == "openvino":
        _openvino()
    return where, choose_precision(precision, where)


def choose_device(wanted: str, only: str | None = None) -> torch.device:
    """Return the device of that name; for "auto" the GPU if there is one, or `only`, if given.

    Raises
    ------
    ConfigError
        If there is no such device, or its type is not `only`.
    """
    if wanted == "auto":
        return torch.device(only or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(wanted)
    except RuntimeError as e:
        raise ConfigError(f"there is no device {wanted!r}.", hint="Known: auto, cpu, cuda, cuda:1, ...") from e
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"the device {wanted!r} cannot predict.", hint="Known: auto, cpu, cuda, cuda:1, ...")
    if only is not None and device.type != only:
        raise ConfigError(f"OpenVINO runs on the processor only, not on {wanted!r}.", hint="Use the engine torch.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"there is no GPU {wanted!r}; the number of GPUs is {count}.", hint="Without a GPU, use cpu.")
    return device


def _in_openvino(network: Network, precision: Literal["fp32", "bf16"]) -> Network:
    """Replace a float32 network's pieces by the same ones in OpenVINO."""
    ov = _openvino()
    core = ov.Core()
    # By default OpenVINO uses bf16 where the processor has it, and a number of threads of its own choice.
    wishes = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": network.workers,
    }
    pieces: list[Piece] = []
    channels = network.bands.channels
    for piece in network.pieces:
        final = piece is network.pieces[-1]
        try:
            converted = _convert(ov, piece, channels, precision, final)
            compiled = core.compile_model(converted, "CPU", wishes)
        except (RuntimeError, ov.frontend.OpConversionFailure, ov.frontend.GeneralFailure) as e:
            raise ModelError(
                f"OpenVINO {ov.__version__} cannot run the model: {str(e).strip().splitlines()[-1]}",
                hint="Use the engine torch.",
            ) from e
        pieces.append(replace(piece, run=_runner(ov, compiled, precision, final)))
        channels = piece.channels
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return replace(network, pieces=tuple(pieces), table=network.table.to(dtype), dtype=dtype)


def _openvino() -> Any:
    # With this entry `import openvino_telemetry` fails, which OpenVINO handles: it then sends no data to anybody.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as e:
        raise ConfigError(
            "the engine openvino is not installed.", hint=f"{how_to_install('engine')} Or use the engine torch."
        ) from e
    return openvino


def _convert(ov: Any, piece: Piece, channels: int, precision: str, final: bool) -> Any:
    """Convert a piece for inputs of any size; inputs and outputs are (1, rows, cols, channels), as torch keeps them."""
    assert isinstance(piece.run, nn.Module)
    halo = (piece.halo or 0) if piece.inside else 0
    side = 2 * halo + 4 * piece.align * piece.shrink
    # OpenVINO reads models through torch's tracing, which torch has deprecated.
    with without_warnings(DeprecationWarning, r"`torch\.jit\.\w+` is deprecated"):
        converted = ov.convert_model(piece.run, example_input=torch.zeros(1, channels, side, side))
    size = ov.Dimension(2 * halo + 1, -1)
    converted.reshape(ov.PartialShape([1, channels, size, size]))
    steps = ov.preprocess.PrePostProcessor(converted)
    stored = ov.Type.bf16 if precision == "bf16" else ov.Type.f32
    for end, dtype in ((steps.input(), stored), (steps.output(), ov.Type.f32 if final else stored)):
        end.tensor().set_element_type(dtype).set_layout(ov.Layout("NHWC"))
        end.model().set_layout(ov.Layout("NCHW"))
    return steps.build()


def _runner(ov: Any, compiled: Any, precision: str, final: bool) -> Callable[[Tensor], Tensor]:
    """Return a function that runs a compiled piece on a torch tensor without copying it; each thread has a request."""
    own = local()

    def run(x: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        request = own.request
        rows_cols_channels = x.permute(0, 2, 3, 1).contiguous()
        if precision == "bf16":  # numpy has no such type: the bits are passed on unchanged
            bits = rows_cols_channels.view(torch.int16).numpy()
            given = ov.Tensor(bits, ov.Shape(bits.shape), ov.Type.bf16)
        else:
            given = ov.Tensor(rows_cols_channels.numpy(), shared_memory=True)
        request.set_input_tensor(given)
        request.infer()
        found = request.get_output_tensor()
        if precision == "bf16" and not final:
            out = torch.from_numpy(_bits(found)).view(torch.bfloat16)
        else:
            out = torch.from_numpy(np.array(found.data))
        return out.permute(0, 3, 1, 2)

    return run


def _bits(tensor: Any) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return a copy of the bits of a bf16 tensor."""
    return np.array(tensor.data).view(np.int16).reshape(tuple(tensor.shape))
