"""Writes a trained model as one file in ONNX, which anything that runs ONNX can use without this project."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from dfer import __version__
from dfer.config.problems import InputError
from dfer.demo import people
from dfer.models.saved import load_model
from dfer.prediction.graph import Graph
from dfer.prediction.models import TrainedModel
from dfer.prediction.onnx_file import FRAMES, LOGITS, METADATA, PROBABILITIES
from dfer.storage.files import replacing

AGREE = 1e-4
"""How far what onnxruntime says may be from what torch says: probabilities, and logits as a share of the largest one,
if that is above 1."""

_BATCHES = 1, 3  # clips: another number than the graph was traced with


class ExportError(Exception):
    """A network cannot be exported, or says something else afterwards."""


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    Attributes:
        difference: the largest one of probabilities between torch and onnxruntime.
        clips: on how many clips.
    """

    path: Path
    difference: float
    clips: int


def export_onnx(model: TrainedModel, path: Path) -> Exported:
    """Write a model with its weights and its card into one file, and check that onnxruntime says what torch says, on
    noise and on photographed faces.

    The file takes any number of clips (`dfer.prediction.onnx_file`). Pixels are normalised and probabilities read out
    in the graph. Raises InputError if the file cannot be written or the model is one in ONNX, SavedModelError if its
    weights cannot be used, ExportError if its network cannot be exported or does not agree. Then there is no file.
    """
    if model.onnx is not None:
        raise InputError(f"{model.onnx} is a model in ONNX already: copy it")
    if path.suffix != ".onnx":
        raise InputError(f"{path}: expected a name that ends in .onnx")
    if path.exists():
        raise InputError(f"{path} is there already: choose another name, or remove it")
    network, card = load_model(model.folder)
    graph = Graph(network, card).eval()
    shape = card["num_segments"], card["input_size"], card["input_size"], 3
    program = _program(graph, shape, model)
    program.model.producer_name, program.model.producer_version = "dfer", __version__
    program.model.doc_string = (
        f"{model.title}: {FRAMES} uint8 RGB [clip, time, y, x, colour] of aligned faces -> {LOGITS}, {PROBABILITIES}; "
        f"classes {', '.join(model.classes)}; {METADATA} in the metadata says how faces are aligned"
    )
    program.model.metadata_props[METADATA] = json.dumps(model.complete_card(), allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            program.save(str(unfinished), external_data=False)
            difference, clips = _check(graph, unfinished, shape, model)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another file") from error
    return Exported(path, difference, clips)


def _program(graph: nn.Module, shape: tuple[int, ...], model: TrainedModel) -> torch.onnx.ONNXProgram:
    """The graph in ONNX, unchecked."""
    _give_biases(graph)
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of operators that this graph has not
            program = torch.onnx.export(
                graph.requires_grad_(False),
                (example,),
                dynamo=True,
                input_names=[FRAMES],
                output_names=[LOGITS, PROBABILITIES],
                dynamic_shapes={"frames": {0: torch.export.Dim("batch")}},
                verbose=False,
                optimize=False,  # onnxruntime does that when it loads a file, and the exporter takes twice as long
            )
    except ImportError as error:
        raise ExportError(
            f"torch's exporter needs a package that is missing ({error}): install this project anew"
        ) from error
    except Exception as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ExportError(
            f"{model.title}: torch cannot export the network {model.card['model']} to ONNX: {first[:300]}. Hand on its "
            f"folder {model.folder} instead, or train another network"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    return program


def _give_biases(graph: nn.Module) -> None:
    """Give convolutions over time a bias of zeros: onnxruntime refuses what the exporter writes for none."""
    for module in graph.modules():
        if isinstance(module, nn.Conv3d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))


def _check(graph: nn.Module, path: Path, shape: tuple[int, ...], model: TrainedModel) -> tuple[float, int]:
    """The largest difference of probabilities, and the number of clips. Raises ExportError if it is too large."""
    frames, size, _, _ = shape
    noise = np.random.default_rng(0).integers(0, 256, (max(_BATCHES), *shape), dtype=np.uint8)
    largest, clips = 0.0, 0
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for batch in _BATCHES:
            for shown in (noise[:batch], photographed(batch, frames, size)):
                found = session.run([LOGITS, PROBABILITIES], {FRAMES: shown})
                with torch.inference_mode():
                    expected = [output.numpy() for output in graph(torch.from_numpy(shown))]
                scale = max(1.0, float(np.abs(expected[0]).max()))
                of_logits, of_probabilities = (
                    float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True)
                )
                if not (of_logits <= AGREE * scale and of_probabilities <= AGREE):
                    raise ExportError(
                        f"{model.title}: onnxruntime does not say what torch says (probabilities differ by "
                        f"{of_probabilities:.2g}, logits by {of_logits:.2g}, at most {AGREE:g} is allowed), so nothing "
                        f"was written. Hand on its folder {model.folder} instead"
                    )
                largest, clips = max(largest, of_probabilities), clips + batch
    except ExportError:
        raise
    except Exception as error:  # onnxruntime's errors share no other base class
        raise ExportError(
            f"{model.title}: onnxruntime cannot run what torch exports of the network {model.card['model']}: "
            f"{str(error).splitlines()[0][:300]}. Hand on its folder {model.folder} instead, or train another network"
        ) from error
    return largest, clips


def photographed(clips: int, frames: int, size: int) -> NDArray[np.uint8]:
    """Clips of photographed faces, uint8[clips, frames, size, size, 3]: people of the demo data, each drifting a little
    from frame to frame."""
    names = people.names()
    made = np.empty((clips, frames, size, size, 3), np.uint8)
    scale = size / (3 * people.IOD)  # about as large as an aligned face
    for clip in range(clips):
        picture = people.read_picture(names[clip % len(names)])
        for frame in range(frames):
            drift = np.array([0.01, 0.02]) * size * frame
            shift = size / 2 - scale * np.array(people.CENTRE) + drift
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            face = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_AREA)
            made[clip, frame] = face[..., None]
    return made
