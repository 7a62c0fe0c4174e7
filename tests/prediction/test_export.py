"""One file in ONNX says what the model in torch says, in a process that has no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from plain_network import Drawing, Looking, Plain, write_plain
from small_model import CLASSES, card
from torch import nn

import dfer
from dfer import read_out
from dfer.certainty import Certainty
from dfer.config import catalogue
from dfer.config.problems import InputError
from dfer.faces.detector import FaceDetector
from dfer.models import build
from dfer.models.saved import SavedModelError, save_model
from dfer.prediction import export
from dfer.prediction.export import ExportError, export_onnx, photographed
from dfer.prediction.film import Request, predict_film
from dfer.prediction.models import TrainedModel, open_model
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.windows import Sliding

ARM = {"normalize": "softmax", "temperature": 1.0}  # the read-out that is more than a softmax
CERTAINTY = Certainty("a part", 50, 0, 0.8, None, None, None, (0.9, 0.4), (0.1, 0.4))


def write(folder: Path, network: type[nn.Module] = Plain) -> Path:
    return write_plain(folder, network, certainty=CERTAINTY.as_dict(), synthetic_data=True, settings={"arm": ARM})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return open_model(str(write(tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def file(model: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    exported = export_onnx(model, tmp_path_factory.mktemp("onnx") / "below" / "model.onnx")
    assert exported.difference < 1e-5 and exported.clips == 8
    return exported.path


WITHOUT_TORCH = """
import json, sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "dfer", "onnx"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuses())
import numpy, onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
card = json.loads(session.get_modelmeta().custom_metadata_map["dfer.card"])
logits, probabilities = session.run(["logits", "probabilities"], {"frames": numpy.load(sys.argv[2])})
numpy.savez(sys.argv[3], logits=logits, probabilities=probabilities, classes=card["classes"])
"""


def test_it_runs_with_onnxruntime_and_numpy_alone(model: TrainedModel, file: Path, tmp_path: Path) -> None:
    alone = shutil.copy(file, tmp_path / "alone.onnx")  # all of it is in the one file
    frames = photographed(5, 4, 32)
    np.save(tmp_path / "frames.npy", frames)
    arguments = [str(alone), str(tmp_path / "frames.npy"), str(tmp_path / "said.npz")]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], check=True, cwd=tmp_path)
    said = np.load(tmp_path / "said.npz")
    assert said["classes"].tolist() == CLASSES
    expected = Recogniser(model, device="cpu").probabilities(frames)
    assert np.ptp(expected, axis=0).max() > 0.001  # the clips differ
    np.testing.assert_allclose(said["probabilities"], expected, atol=1e-4)
    np.testing.assert_allclose(read_out.probabilities(said["logits"], model.card), expected, atol=1e-4)


def test_on_a_gpu_nothing_is_rounded_to_tf32_and_falling_back_is_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed to see what is asked for."""
    seen: list[object] = []

    def session(*arguments: Any, providers: Sequence[Any], **options: Any) -> onnxruntime.InferenceSession:
        seen.extend(providers)
        return onnxruntime_session(*arguments, providers=["CPUExecutionProvider"], **options)

    onnxruntime_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: seen.append("libraries"))
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(InputError, match="fell back to the CPU"):
        Recogniser(open_model(str(file)), device="cuda")
    assert seen == ["libraries", ("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    seen.clear()
    assert not Recogniser(open_model(str(file)), device="cpu")._network.on_gpu
    assert seen == ["CPUExecutionProvider"]


@pytest.mark.gpu
def test_a_gpu_says_what_the_cpu_says(model: TrainedModel, file: Path) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider: install onnxruntime-gpu in its place")
    frames = photographed(5, 4, 32)
    on_gpu = Recogniser(open_model(str(file)), device="cuda")
    assert on_gpu._network.on_gpu
    expected = Recogniser(model, device="cpu").probabilities(frames)
    np.testing.assert_allclose(on_gpu.probabilities(frames), expected, atol=1e-4)
    np.testing.assert_allclose(Recogniser(model, device="cuda").probabilities(frames), expected, atol=1e-4)


def test_its_card_says_all_that_the_folder_s_says(model: TrainedModel, file: Path) -> None:
    again = open_model(str(file))
    assert (again.faces, again.certainty, again.classes) == (model.faces, CERTAINTY, model.classes)
    assert again.synthetic and again.onnx == file
    assert again.identity != model.identity
    assert again.describe()["folder"] == str(file)


def test_a_video_is_the_same_to_both(
    model: TrainedModel, file: Path, detector: FaceDetector, video: Path, tmp_path: Path
) -> None:
    request = Request(Sliding(1.0, 0.5))
    tables = [
        predict_film("a.mp4", video, Recogniser(one, device="cpu", threads=1), detector, request).table
        for one in (model, open_model(str(file)))
    ]
    names = [name for name in tables[0] if name.startswith("p_")]
    np.testing.assert_allclose(*(table[names].to_numpy() for table in tables), atol=1e-4)
    assert tables[0].drop(columns=[*names, "entropy"]).equals(tables[1].drop(columns=[*names, "entropy"]))
    loaded = dfer.load(file)
    assert "synthetic data" in repr(loaded)
    np.testing.assert_allclose(loaded.predict(video, window=1.0).table[names], tables[1][names], atol=1e-6)


PREDICT = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("torch is not needed")

sys.meta_path.insert(0, Refuses())
import dfer

print(len(dfer.load(sys.argv[1]).predict(sys.argv[2], window=1.0).table))
"""


def test_a_video_needs_no_torch(file: Path, video: Path) -> None:
    command = [sys.executable, "-c", PREDICT, str(file), str(video)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(dfer.__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "4"


@pytest.mark.parametrize(
    ("network", "message"), [(Looking, "cannot export the network"), (Drawing, "does not say what")]
)
def test_what_cannot_be_exported_leaves_no_file(network: type[nn.Module], message: str, tmp_path: Path) -> None:
    model = open_model(str(write(tmp_path / "model", network)))
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(model, tmp_path / "out" / "model.onnx")
    assert "\n" not in str(caught.value) and "Hand on its folder" in str(caught.value)
    assert not list((tmp_path / "out").glob("*")) and not list((tmp_path / "out").glob(".*"))


def test_what_onnxruntime_cannot_run_leaves_no_file(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        export,
        "_program",
        lambda *_: torch.onnx.export(
            nn.Identity().eval(), (torch.zeros(1),), dynamo=True, verbose=False, optimize=False
        ),
    )
    with pytest.raises(ExportError, match="onnxruntime cannot run"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written(model: TrainedModel, file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        export_onnx(model, file)
    with pytest.raises(InputError, match=r"expected a name that ends in \.onnx"):
        export_onnx(model, tmp_path / "model.pt")
    with pytest.raises(InputError, match="is a model in ONNX already"):
        export_onnx(open_model(str(file)), tmp_path / "again.onnx")


def test_files_that_are_no_models(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_model(str(tmp_path / "none.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SavedModelError, match="cannot be read as an ONNX model"):
        open_model(str(broken))
    other = onnx.load(file)
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(SavedModelError, match=r"has no card \(dfer\.card\)"):
        open_model(str(tmp_path / "other.onnx"))
    wrong = onnx.load(file)
    written = json.loads(wrong.metadata_props[0].value)
    wrong.metadata_props[0].value = json.dumps({**written, "input_size": 64})
    onnx.save(wrong, tmp_path / "wrong.onnx")
    with pytest.raises(SavedModelError, match="its card says"):
        Recogniser(open_model(str(tmp_path / "wrong.onnx")))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="no CUDAExecutionProvider"):
        Recogniser(open_model(str(file)), device="cuda")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", catalogue.NETWORKS)
def test_every_network_of_the_catalogue(name: str, model: TrainedModel, tmp_path: Path) -> None:
    network = catalogue.NETWORKS[name]
    frames, size = network.num_segments, network.input_size if network.one_size else 64
    torch.manual_seed(0)
    made = build(name, num_classes=len(CLASSES), num_segments=frames, width=0.125)
    facts = {"num_segments": frames, "input_size": size, "width": 0.125}
    normalization = {"mean": list(network.mean), "std": list(network.std)}
    save_model(tmp_path, made.state_dict(), card(model=name, normalization=normalization, **facts))
    exported = export_onnx(open_model(str(tmp_path)), tmp_path / "model.onnx")
    assert exported.difference < 1e-4
    assert replace(open_model(str(exported.path)), name="").classes == model.classes
