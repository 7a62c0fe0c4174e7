"""The settings of every stage as typed, frozen models.

Each section of `pipeline_config.yaml` is one model here. A stage gets only the sections that determine its output.
Defaults are the paper's (section 4.3) where the paper gives a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_serializer,
    model_validator,
)

from dfer.class_names import EMOTIONS, class_name
from dfer.config.catalogue import (
    LAYOUTS,
    LOSSES,
    METHODS,
    MIXINGS,
    NETWORKS,
    NORMALIZATIONS,
    loss,
    mixing,
    normalization,
    problem_with_name,
)
from dfer.system.paths import expanded

NO_PASSWORD = "give it by the environment's MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1024, le=65535)]

Show = Literal[
    "scores",
    "networks",
    "per-class",
    "probabilities",
    "disagreement",
    "confusion",
    "class-distribution",
    "coexistence",
    "temporal",
]
"""What a table or figure shows."""

Protocol = Literal["last", "validation", "paper"]
"""The epoch that counts: the last, the best on an inner part of the training folds, or the best on the test fold."""


def _on_or_off(written: object) -> object:
    """YAML reads a bare `on` or `off` as true or false."""
    return {True: "on", False: "off"}[written] if isinstance(written, bool) else written


def _one_of(known: Iterable[str]) -> AfterValidator:
    def check(name: str) -> str:
        if problem := problem_with_name(name, known):
            raise ValueError(problem)
        return name

    return AfterValidator(check)


def _size(pixels: int) -> int:
    if pixels != 0 and pixels < 16:
        raise ValueError("expected 0 (the network's own) or at least 16 pixels")
    return pixels


def _work_dir(folder: str) -> str:
    _, is_url, path = folder.partition("://")
    if is_url and "@" in path.split("/")[0]:
        raise ValueError("credentials do not belong here: give them in the environment (AWS_ACCESS_KEY_ID, ...)")
    if is_url and (not path.strip("/") or ".." in path.split("/")):
        raise ValueError("expected the URL of a folder, such as s3://bucket/prefix")
    return folder.rstrip("/") if is_url else expanded(folder)


def _written_names(written: object) -> object:
    """Names of classes as YAML gives them; ValueError for what may have been meant as names, and for names that are the
    same class."""
    if isinstance(written, str):
        raise ValueError(f"expected a list of names: [{', '.join(filter(None, map(str.strip, written.split(','))))}]")
    if not isinstance(written, list | tuple):
        return written
    _check_texts(written)
    spellings: dict[str, list[str]] = {}
    for name in written:
        if isinstance(name, str):
            spellings.setdefault(class_name(name), []).append(name)
    twice = [
        name + (f" ({' and '.join(its)} count as one)" if len(set(its)) > 1 else "")
        for name, its in spellings.items()
        if len(its) > 1
    ]
    if twice:
        raise ValueError(f"listed twice: {', '.join(twice)}")
    return written


def _check_texts(names: Iterable[object]) -> None:
    for name in names:
        if isinstance(name, bool):
            raise ValueError(
                "yes, no, on, off, true and false are no text in YAML: quote such names, as in ['yes', 'no']"
            )
        if isinstance(name, int | float) or name is None:
            text = "null" if name is None else str(name)
            raise ValueError(f"{text} is no text in YAML: quote such names, as in ['{text}']")


def _classes(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) < 2:
        raise ValueError(f"expected two classes or more, found {len(names)}")
    if taken := [name for name in names if name in ("war", "uar")]:
        raise ValueError(f"{', '.join(taken)}: is the name of a score; call the class otherwise")
    return names


def _pairs(merge: object) -> object:
    if not isinstance(merge, Mapping):
        return merge
    _check_texts([*merge, *merge.values()])
    return tuple(merge.items())


def _class_name(name: str) -> str:
    if not (plain := class_name(name)) or not plain.isprintable():
        raise ValueError("expected the name of a class")
    return plain


ClassName = Annotated[str, AfterValidator(_class_name)]
UserPath = Annotated[Path, AfterValidator(lambda path: Path(expanded(str(path))))]
NameOrPath = Annotated[str, AfterValidator(expanded)]
NetworkName = Annotated[str, _one_of(NETWORKS)]
MixingName = Annotated[str, _one_of(MIXINGS)]
NormalizationName = Annotated[str, _one_of(NORMALIZATIONS)]
LossName = Annotated[str, _one_of(LOSSES)]
LayoutName = Annotated[str, _one_of(LAYOUTS)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    added_later: ClassVar[frozenset[str]] = frozenset()
    """Keys that are left out when the section is written while they have their default, so that cache keys, checkpoints
    and cards from before they existed stay the same."""

    @model_serializer(mode="wrap")
    def _leave_out_later_keys(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        unset = {key for key in self.added_later if getattr(self, key) == fields[key].default}
        return {key: value for key, value in serialize(self).items() if key not in unset}


class DetectionSettings(Section):
    """Face detection with InsightFace."""

    model: NameOrPath = Field(
        "scrfd-2.5g", description="'scrfd-2.5g', an InsightFace pack ('buffalo_l'), or a path to a .onnx"
    )
    provider: Literal["cpu", "cuda"] = Field("cpu", description="execution provider; an error if it is absent")
    input_size: int = Field(
        640, ge=64, multiple_of=32, description="the longest side of a frame in which key points are measured, pixels"
    )
    search_size: int = Field(
        320, ge=64, multiple_of=32, description="the longest side of a frame in which faces are first searched for"
    )
    search_every: int = Field(
        25,
        ge=1,
        description="source frames from one search of the whole frame to the next; between, faces are followed",
    )
    measure_every: int = Field(
        12, ge=1, description="most source frames from one measurement of a face at input_size to the next"
    )
    threshold: Share = Field(0.5, description="lowest detection score that counts as a face")
    close_up_fallback: bool = Field(True, description="search again in a padded frame where no face was found")


class TrackingSettings(Section):
    """One person per clip, followed over time."""

    max_gap: int = Field(12, ge=0, description="longest run of source frames bridged by interpolated key points")
    min_face_share: Share = Field(
        0.33,
        description="lowest share of the searched frames that have the person's face; a third, since a network looks "
        "at one of three kept frames",
    )


class AlignmentSettings(Section):
    """Five key points to a template (section 4.2)."""

    size: int = Field(224, ge=16, le=2048, description="side of the aligned crop, pixels")
    margin: float = Field(0.3, ge=0.0, le=2.0, description="margin around the tight face template, share of its side")
    transform: Literal["clip-affine", "affine", "similarity", "none"] = Field(
        "clip-affine",
        description="clip-affine: a similarity a frame that follows the head, and one stretch a clip that evens out "
        "people's proportions; affine: all five points to the template in each frame, which fits the mouth's motion "
        "away; similarity: those points without any stretch; none: the frames are faces already",
    )


class ShardSettings(Section):
    """How aligned clips are stored."""

    format: Literal["parquet", "npz"] = "parquet"
    segments: int = Field(8, ge=1, description="equal parts of a clip; frames are kept from each")
    frames_per_segment: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        "all", description="frames kept of each segment, or all; training draws from these"
    )
    jpeg_quality: int = Field(95, ge=1, le=100)
    clips_per_shard: Count = 64
    max_failed_share: Share = Field(0.2, description="a larger share of clips without a usable face stops the pipeline")


class SamplingSettings(Section):
    """T frames of a clip, one from each of T equal segments (section 4.3)."""

    added_later = frozenset({"consecutive"})

    num_segments: int = Field(0, ge=0, description="T; 0: the network's own, 8 for the paper's")
    consecutive: Count = Field(
        1, description="neighbouring frames taken at each place, so that T frames are of T / consecutive segments"
    )


class MixingSettings(Section):
    """The mixing of two clips (equations 1 to 3)."""

    alpha: Positive = Field(0.4, description="lambda ~ Beta(alpha, alpha)")


class ModelSettings(Section):
    """The network."""

    name: NetworkName = "resnet18_tsm"
    width: float = Field(1.0, gt=0.0, le=1.0, description="number of channels relative to torchvision's network")
    pretrained: NameOrPath | None = Field(
        "imagenet", description="'imagenet', for r3d_18 'kinetics400', a torchvision weight file, or null"
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    input_size: Annotated[int, AfterValidator(_size)] = Field(
        0, description="side of the frames the network sees, pixels; 0: the network's own, 224 for the paper's"
    )
    freeze: bool = Field(
        False, description="train the last layers alone, on pretrained weights that stay as they are: for few clips"
    )

    @model_validator(mode="after")
    def _frozen_weights_come_from_somewhere(self) -> ModelSettings:
        if self.freeze and self.pretrained is None:
            raise ValueError("freeze: true keeps pretrained weights as they are, but pretrained is null: name some")
        return self


class AugmentSettings(Section):
    """Random crop and mirroring, drawn once per clip."""

    min_scale: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.8, description="smallest crop side, share of the frame"
    )
    horizontal_flip: Share = Field(0.5, description="probability of mirroring a clip")


class TrainSettings(Section):
    """Optimisation (section 4.3)."""

    added_later = frozenset(
        {"step_epochs", "step_factor", "warmup_epochs", "final_learning_rate", "decay_norms", "calibrate"}
    )

    epochs: Count = 450
    batch_size: Annotated[int, Field(ge=2)] = 8
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.02
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    decay_norms: bool = Field(True, description="weight decay of normalisations and biases, too")
    schedule: Literal["cosine", "onecycle", "step"] = "cosine"
    final_learning_rate: Annotated[float, Field(ge=0.0)] = Field(0.0, description="at the end of a cosine")
    step_epochs: Count = Field(40, description="schedule: step: epochs from one fall of the learning rate to the next")
    step_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.1, description="what each fall multiplies it by")
    warmup_epochs: int = Field(0, ge=0, description="epochs at the beginning in which the learning rate grows linearly")
    augment: AugmentSettings = AugmentSettings()
    ambiguous: Literal["exclude", "train"] = Field(
        "exclude", description="clips with votes but no single label: left out, or added to the training part"
    )
    selection: Literal["last", "validation"] = Field(
        "last", description="the epoch that is reported: the last, or the best on an inner part of the training folds"
    )
    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    calibrate: Literal["none", "temperature"] = Field(
        "none", description="temperature: logits are divided by a number that is fitted on the inner part, at the end"
    )
    monitor_every: int = Field(1, ge=0, description="epochs between tests on the test fold (0: none); never selects")
    checkpoint_every: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="'auto': bfloat16 with TF32 on a GPU that supports it, otherwise float32"
    )
    channels_last: bool = Field(True, description="the memory layout that convolutions are fastest in")
    deterministic: bool = Field(
        False, description="the same numbers from the same seed on one GPU, too; slower (a CPU needs nothing for it)"
    )
    cuda_graph: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = Field(
        "auto", description="record a step of a training on a GPU and replay it; 'auto': where that is possible"
    )
    processes: Count = Field(
        1, description="processes that run one training together, each on its own GPU with a share of every batch"
    )
    micro_batches: Count = Field(
        1, description="parts in which a batch is computed, to save memory; doubled when a GPU runs out of memory"
    )
    threads: int = Field(0, ge=0, description="CPU threads of one training; 0 shares the cores between trainings")
    loader_workers: int = Field(0, ge=0, description="processes that read clips ahead of the training")
    cache: Literal["auto", "none", "host", "device"] = Field(
        "auto", description="where decoded frames are kept: RAM (host), GPU memory (device); 'auto': where they fit"
    )

    def problem_with_calibration(self) -> str:
        """Why nothing can be fitted as `calibrate` asks, and the way out; empty if it can. Asked like
        `problem_with_schedule`."""
        if self.calibrate == "none" or self.selection == "validation":
            return ""
        return (
            f"calibrate: {self.calibrate} is fitted on clips that no weight is fitted to, and there are none: set "
            "train.selection to validation"
        )

    def problem_with_precision(self) -> str:
        """Why the device that is named does not compute in this precision, and the way out; empty if it may. Asked like
        `problem_with_schedule`."""
        if self.device != "cpu" or self.precision in ("auto", "float32"):
            return ""
        return (
            f"precision {self.precision!r} is for CUDA devices; on a CPU it is far slower: set train.precision to "
            "'auto' or 'float32'"
        )

    def problem_with_cuda_graph(self, *more: str) -> str:
        """Why no step can be recorded although it is asked for, and the way out; empty if one may. Asked like
        `problem_with_schedule`, and with `more` reasons where device and network are known."""
        on_cpu = ["it is on the CPU"] if self.device == "cpu" else []
        reasons = list(dict.fromkeys([*more, *on_cpu, *self.reasons_against_cuda_graph()]))
        if self.cuda_graph != "on" or not reasons:
            return ""
        return (
            f"train.cuda_graph is 'on', but the training cannot be recorded, since {' and '.join(reasons)}: set it to "
            "'auto'"
        )

    def reasons_against_cuda_graph(self) -> list[str]:
        """Why the steps of a training with these settings are not recorded as a CUDA graph, on any device."""
        against = {
            f"{self.processes} processes share it": self.processes > 1,
            "its precision is float16": self.precision == "float16",
            f"every batch is computed in {self.micro_batches} parts": self.micro_batches > 1,
            "train.deterministic is true": self.deterministic,
        }
        return [reason for reason, holds in against.items() if holds]

    def problem_with_schedule(self) -> str:
        """Why no learning rate can follow these settings, and the way out; empty if one can. Asked for a pipeline that
        is to run, not of every one in a file: an override for one may not suit the recipe of another's network."""
        if self.warmup_epochs and (self.schedule == "onecycle" or self.warmup_epochs >= self.epochs):
            return (
                f"warmup_epochs {self.warmup_epochs}: expected fewer than the {self.epochs} epochs, and a schedule "
                f"without a beginning of its own (cosine, step), found {self.schedule}: set train.warmup_epochs to 0"
            )
        if self.final_learning_rate and (self.schedule != "cosine" or self.final_learning_rate >= self.learning_rate):
            return (
                f"final_learning_rate {self.final_learning_rate:g} is for schedule: cosine, which falls to it from "
                f"learning_rate {self.learning_rate:g}; the schedule is {self.schedule}: set "
                "train.final_learning_rate to 0"
            )
        return ""

    @model_validator(mode="after")
    def _batch_can_be_divided(self) -> TrainSettings:
        if self.processes > 1 and self.batch_size % self.processes:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be divided between {self.processes} processes: set "
                "batch_size to a multiple of processes"
            )
        share = self.batch_size // self.processes
        if share < 2:
            raise ValueError(
                f"batch_size {self.batch_size} leaves {self.processes} processes {share} clip each, and a clip is "
                "never mixed with itself: two or more are needed"
            )
        if self.micro_batches > share // 2:
            raise ValueError(
                f"micro_batches {self.micro_batches} would be of fewer than two clips, which BatchNorm needs: a share "
                f"of a batch has {share}, so at most {share // 2}"
            )
        return self


class GroupSettings(Section):
    """The clear and the mixed expression group (section 5.5)."""

    clear_above: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.9, description="a clip is clear if more than this share of its votes is for one emotion"
    )
    size: Count | None = Field(None, description="clips of each group; null: the number of clear clips")


class ArmSettings(Section):
    """One arm of an experiment: which clips, which labels, which mixing, which normalisation, which loss."""

    added_later = frozenset(
        {
            "loss",
            "ial_weight",
            "temperature",
            "smoothing",
            "focal_gamma",
            "class_balance",
            "adjustment",
            "sampler",
            "method",
        }
    )

    labels: Literal["hard", "soft", "vote"] = Field(
        description="a clip's single label; the shares of its votes; or one of its votes, drawn anew each epoch"
    )
    mixing: MixingName = "none"
    normalize: NormalizationName = "none"
    temperature: Positive = Field(1.0, description="normalize: softmax of q / temperature; sharpen: q ** (1 / it)")
    smoothing: Share = Field(0.1, description="normalize: smooth: the share that all classes get evenly")
    loss: LossName = "cross_entropy"
    ial_weight: Positive = Field(0.1, description="of what the loss ial adds to the cross-entropy")
    focal_gamma: Annotated[float, Field(ge=0.0)] = Field(2.0, description="loss: focal: the power of 1 - p")
    class_balance: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.999, description="loss: class_balanced: beta; 0 weighs all classes the same, near 1 by 1 / their clips"
    )
    adjustment: Positive = Field(1.0, description="loss: logit_adjusted: what the log shares of classes are times")
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="every clip once an epoch; or as many draws, each class as likely as the others"
    )
    method: Literal["none", "scn", "rul", "eac"] = Field(
        "none",
        description="scn: clips of doubtful labels count less, and are relabelled; rul: features are mixed by how "
        "uncertain they are; eac: a clip and its mirror image are to attend to the same places",
    )
    alpha: Positive | None = Field(None, description="for this arm instead of mixing.alpha")
    ratio: Literal["clip", "batch"] = Field("clip", description="lambda is drawn per clip or per batch")
    votes: Count | None = Field(None, description="votes drawn from each clip for its soft label; null: all")
    clips: Literal["all", "clear", "mixed"] = Field("all", description="all training clips, or a group (section 5.5)")
    ambiguous: Literal["exclude", "train"] | None = Field(None, description="for this arm instead of train.ambiguous")

    def asks_for(self, option: str) -> bool:
        """Whether an option has another value than its default."""
        return bool(getattr(self, option) != ArmSettings.model_fields[option].default)

    @model_validator(mode="after")
    def _is_consistent(self) -> ArmSettings:
        if self.votes is not None and self.labels == "hard":
            raise ValueError("votes: so many votes make a soft label, but this arm has labels: hard")
        asked = {"alpha": self.alpha is not None, "ratio": self.ratio == "batch"}
        for option in (name for name, is_asked in asked.items() if is_asked):
            if option not in mixing(self.mixing).options:
                takers = ", ".join(name for name, one in MIXINGS.items() if option in one.options)
                raise ValueError(f"{option} is about lambda, which only an arm with mixing: {takers} draws")
        for key, catalogued, chosen in (
            ("normalize", NORMALIZATIONS, normalization(self.normalize)),
            ("loss", LOSSES, loss(self.loss)),
        ):
            for option in dict.fromkeys(o for one in catalogued.values() for o in one.options):
                if self.asks_for(option) and option not in chosen.options:
                    takers = ", ".join(name for name, one in catalogued.items() if option in one.options)
                    raise ValueError(f"{option} is for {key}: {takers}, but this arm has {key}: {getattr(self, key)}")
        if self.normalize == "sharpen" and self.temperature == 1:
            raise ValueError("normalize: sharpen does nothing at temperature 1: set one below it, such as 0.5")
        if loss(self.loss).counts and (self.labels != "soft" or self.normalize != "none"):
            raise ValueError(f"loss: {self.loss} is of the counts of votes: it needs labels: soft and normalize: none")
        if METHODS[self.method].needs_whole_labels and self.mixing not in ("none", "cutout"):
            raise ValueError(f"method: {self.method} is about each clip's own label: it needs mixing: none, or cutout")
        return self


class LabelSettings(Section):
    """The classes of a pipeline, and what becomes of those of its data sets."""

    classes: Annotated[tuple[ClassName, ...], BeforeValidator(_written_names), AfterValidator(_classes)] = Field(
        EMOTIONS, description="names, in the order of every table; a data set's class of another name is left out"
    )
    merge: Annotated[tuple[tuple[ClassName, ClassName], ...], BeforeValidator(_pairs), PlainSerializer(dict)] = Field(
        (), description="a data set's class -> the one that it counts as, for example {contempt: angry}"
    )

    @model_validator(mode="after")
    def _merged_into_classes(self) -> LabelSettings:
        if unknown := [name for _, name in self.merge if name not in self.classes]:
            raise ValueError(f"merge: {', '.join(unknown)}: expected one of the classes {', '.join(self.classes)}")
        if both := [name for name, _ in self.merge if name in self.classes]:
            raise ValueError(f"merge: {', '.join(both)}: is a class of its own; take it out of classes or of merge")
        return self


class StageSettings(Section):
    """The settings of all stages of one pipeline."""

    detection: DetectionSettings = DetectionSettings()
    tracking: TrackingSettings = TrackingSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    shards: ShardSettings = ShardSettings()
    sampling: SamplingSettings = SamplingSettings()
    mixing: MixingSettings = MixingSettings()
    model: ModelSettings = ModelSettings()
    groups: GroupSettings = GroupSettings()
    train: TrainSettings = TrainSettings()
    labels: LabelSettings = LabelSettings()


TRAINING_SECTIONS = ("sampling", "mixing", "model", "groups", "train")
"""The sections that may differ between the experiments and networks of one pipeline: faces are aligned once for all."""


class DemoDataSettings(Section):
    """The synthetic data sets that `dfer demo-data` writes."""

    clips: int = Field(
        320, ge=7, description="clips of the DFEW-like set; the AFEW-like one has about a quarter as many"
    )
    seed: int = Field(0, ge=0)


class DatasetSettings(Section):
    """A data set: its folder and its layout."""

    layout: LayoutName
    root: UserPath = Field(description="the data set's folder; of a generated one, its part of the demo data")
    source: str | None = Field(None, description="the kind of files to read; null: the raw videos")
    generated: bool = Field(False, description="synthetic: made by the pipeline itself")


class MLflowSettings(Section):
    """Where MLflow's runs go."""

    tracking_uri: str | None = Field(
        None, description="null: the server of MLFLOW_TRACKING_URI, else a database under the work directory"
    )

    @model_validator(mode="after")
    def _holds_no_password(self) -> MLflowSettings:
        # not a check of the value itself: messages about a value repeat the value
        if self.tracking_uri is not None and urlsplit(self.tracking_uri).password:
            raise ValueError(f"tracking_uri holds a password; {NO_PASSWORD}")
        return self


class RunSettings(Section):
    """How much runs at a time on this machine."""

    workers: int = Field(0, ge=0, description="single-threaded processes; 0: one per core")
    trainings: int = Field(0, ge=0, description="trainings at a time; 0: 1 or 2 per GPU, without one cores + 1")
    task_runner: Literal["threads", "processes", "dask", "ray"] = Field(
        "threads", description="what runs the align tasks; dask and ray need the extra of that name"
    )
    cluster: str | None = Field(
        None, description="address of a Dask scheduler or Ray head; null: a cluster on this machine, of `workers`"
    )

    @model_validator(mode="after")
    def _cluster_has_a_runner(self) -> RunSettings:
        if self.cluster is not None and self.task_runner not in ("dask", "ray"):
            raise ValueError(f"cluster is for task_runner: dask or ray, but it is {self.task_runner}")
        return self


class ServicesSettings(Section):
    """What `dfer services up` starts; everything listens on the loopback interface."""

    prefect_port: Port = 4200
    mlflow_port: Port = 5000
    postgres_port: Port = Field(5433, description="not 5432, where a server of the system itself listens")
    database: Literal["auto", "sqlite", "postgresql"] = Field(
        "auto", description="auto: PostgreSQL where it is installed"
    )
    workers: int = Field(1, ge=1, description="processes, each of which runs any number of flows; with SQLite: 1")
    folder: UserPath | None = Field(
        None, description="for their data and logs; null: `services` in a local work directory"
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> ServicesSettings:
        ports = (self.prefect_port, self.mlflow_port, self.postgres_port)
        if len(set(ports)) < len(ports):
            raise ValueError(f"prefect_port, mlflow_port and postgres_port must differ, but are {ports}")
        return self


Names = Annotated[list[str], Field(min_length=1)]
Overlay = dict[str, dict[str, Any]]


class ExperimentSettings(Section):
    """A table or a figure: which data set, arms and networks, and what it shows of them."""

    title: str
    note: str = Field("", description="a remark printed with the numbers")
    show: Show = "scores"
    dataset: str | None = Field(None, description="null: the pipeline's")
    evaluate_on: str | None = Field(None, description="another data set; null: the test part of the same one")
    arms: Names | None = Field(None, description="null: the pipeline's")
    models: Annotated[list[NetworkName], Field(min_length=1)] | None = Field(None, description="null: model.name")
    epochs: Annotated[list[Count], Field(min_length=1)] | None = Field(
        None, description="lengths of training to compare, each a training of its own; null: train.epochs"
    )
    split: Literal["official", "disjoint", "both"] = Field(
        "official",
        description="the data set's own folds; folds made anew, in which no clip has a copy or another take of its "
        "scene in another one; or rows of both",
    )
    protocol: Protocol | None = Field(None, description="the epoch that counts; null: train.selection")
    published: str | None = Field(None, description="the published table to print beside it")
    settings: Overlay = Field({}, description="laid over the pipeline's")


class PipelineSettings(Section):
    """Arms that are trained on the folds of one data set and evaluated on it and on others, or tables and figures."""

    description: str
    dataset: str
    folds: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [1, 2, 3, 4, 5]
    seeds: list[Annotated[int, Field(ge=0)]] = Field([], description="seeds of the trainings; none: train.seed")
    cross_datasets: list[str] = []
    arms: Names
    experiments: dict[str, ExperimentSettings | None] = Field(
        {}, description="tables and figures, null leaves one out; none: the arms on all folds and on cross_datasets"
    )
    stand_ins: dict[str, str] = Field({}, description="data set that an experiment names -> the one to use instead")
    settings: Overlay = Field({}, description="laid over the sections above")
    networks: dict[str, Overlay] = Field({}, description="laid over the settings for one network")


class ConfigFile(StageSettings):
    """The whole of `pipeline_config.yaml`."""

    work_dir: Annotated[str, AfterValidator(_work_dir)] = Field(
        "work", description="a folder, or the URL of one in an object store (s3://bucket/prefix)"
    )
    mlflow: MLflowSettings = MLflowSettings()
    run: RunSettings = RunSettings()
    services: ServicesSettings = ServicesSettings()
    demo_data: DemoDataSettings = DemoDataSettings()
    datasets: dict[str, DatasetSettings]
    networks: dict[str, Overlay] = Field({}, description="settings that differ for one network, by its name")
    published: list[UserPath] = Field([], description="more files with published results")
    arms: dict[str, ArmSettings]
    pipelines: dict[str, PipelineSettings]
