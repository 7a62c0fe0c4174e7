"""Everything that is chosen by name: networks, mixings, losses, label normalisations and data set layouts.

Light on purpose: the configuration is checked against these names without importing what they stand for. To add one,
write its module and add a line here. What is not listed can be named as `module:attribute` in the configuration.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dfer.config.suggestions import did_you_mean

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
"""Mean and standard deviation of RGB values in [0, 1], with which torchvision's weights were trained."""
NO_MEAN, UNIT_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Pixels in [0, 1] as they are."""


@dataclass(frozen=True)
class Network:
    """A network that can be trained.

    Attributes:
        builder: `module:attribute` of the nn.Module class, called with (num_classes, num_segments, width, dropout).
        num_segments, input_size: frames of a clip and their side, pixels, unless the configuration says otherwise.
        fewest, multiple: the frames that it needs at least, and the number that theirs has to be a multiple of.
        one_size: whether `input_size` is the only one, since its weights know a frame's places.
        pretrained: name for `model.pretrained` -> the weights it stands for, as torchvision calls them.
        new_layers: its layers that pretrained weights may lack, or have in another size; the last one is the
            classifier.
        trunk: the layer that pretrained weights are for, with the names of their keys in front of which it has none;
            empty: the whole network.
        mean, std: of the RGB values in [0, 1], by which pixels are normalised for it: those of its pretrained weights.
        stages: modules of the network after which hidden states may be mixed, each with rows of whole clips or frames.
        feature_map: the module whose output are the last features that still have places.
        classes_of_places: whether its logits are a linear layer of those features' mean, so that it says of each place
            which class it speaks for.
        recordable: whether its training step can be a CUDA graph, for which nothing may be copied from the CPU.
        class_token: its last attention, torchvision's MultiscaleAttention, whose class token is read.
        recipe: settings that it was published with, by section; over the file's sections, under all else.
        reconstructed: of a network whose publication does not say all that is needed to build it: what is known, and
            what was chosen here. Its numbers are ours, never the published method's.
    """

    builder: str
    description: str
    num_segments: int
    input_size: int
    source: str = ""
    pretrained: Mapping[str, str] = field(default_factory=dict)
    new_layers: tuple[str, ...] = ("fc",)
    trunk: str = ""
    fewest: int = 1
    multiple: int = 1
    one_size: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    stages: tuple[str, ...] = ()
    feature_map: str = ""
    classes_of_places: bool = False
    recordable: bool = True
    class_token: str = ""
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reconstructed: str = ""

    def problem_with_arm(self, mixing: str, method: str) -> str:
        """Why an arm of that mixing and method cannot train it, and which networks it can; empty if it can."""
        needed = MIXINGS[mixing].needs if mixing in MIXINGS else ""
        if needed and not getattr(self, needed):
            return f"mixing: {mixing} needs {_NEEDS[needed]}; {_networks_with(needed)}"
        if METHODS[method].needs_classes_of_places and not self.classes_of_places:
            return f"method: {method} needs {_NEEDS['classes_of_places']}; {_networks_with('classes_of_places')}"
        return ""


_FINE_TUNED: dict[str, dict[str, Any]] = {
    "train": {
        "epochs": 50,
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "weight_decay": 0.05,
        "decay_norms": False,
        "warmup_epochs": 5,
    },
    "model": {"pretrained": "kinetics400"},
}
"""For torchvision's transformers, chosen here: they do not train with the file's SGD."""

NETWORKS: dict[str, Network] = {
    "resnet18_tsm": Network(
        "dfer.models.tsm:ResNet18TSM",
        "ResNet-18 with temporal shift: the paper's network (section 4.3)",
        num_segments=8,
        input_size=224,
        source="Lin et al., TSM, ICCV 2019",
        pretrained={"imagenet": "ResNet18_Weights.IMAGENET1K_V1"},
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
        classes_of_places=True,
    ),
    "resnet18_gru": Network(
        "dfer.models.recurrent:ResNet18GRU",
        "ResNet-18 a frame, then a GRU over time: the paper's 2DCNN-GRU (section 5.6)",
        num_segments=8,
        input_size=224,
        source="He et al., ResNet, CVPR 2016; Chung et al., GRU, arXiv:1412.3555",
        pretrained={"imagenet": "ResNet18_Weights.IMAGENET1K_V1"},
        new_layers=("gru", "fc"),
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
    ),
    "resnet18": Network(
        "dfer.models.resnet:ResNet18",
        "ResNet-18 a frame, for pictures; of several frames the mean",
        num_segments=1,
        input_size=224,
        source="He et al., ResNet, CVPR 2016",
        pretrained={"imagenet": "ResNet18_Weights.IMAGENET1K_V1"},
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
        classes_of_places=True,
    ),
    "r3d_18": Network(
        "dfer.models.r3d:R3D18",
        "ResNet-18 with 3D convolutions, torchvision's: the 3D Resnet18 of Table 1",
        num_segments=16,
        input_size=112,
        source="Tran et al., R3D, CVPR 2018",
        pretrained={"kinetics400": "R3D_18_Weights.KINETICS400_V1"},
        mean=KINETICS_MEAN,
        std=KINETICS_STD,
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
        classes_of_places=True,
    ),
    "former_dfer": Network(
        "dfer.models.former_dfer:FormerDFER",
        "ResNet-18 with a transformer over the places of a frame and one over time (Former-DFER)",
        num_segments=16,
        input_size=112,
        one_size=True,
        source="Zhao and Liu, Former-DFER, ACM MM 2021",
        mean=NO_MEAN,
        std=UNIT_STD,
        recipe={
            "train": {
                "epochs": 100,
                "batch_size": 32,
                "optimizer": "sgd",
                "learning_rate": 0.01,
                "momentum": 0.9,
                "weight_decay": 1e-4,
                "schedule": "step",
                "step_epochs": 40,
                "step_factor": 0.1,
                "augment": {"min_scale": 0.28, "horizontal_flip": 0.5},
            },
            "model": {"pretrained": None, "dropout": 0.0},
            "sampling": {"consecutive": 2},
        },
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
    ),
    "gca": Network(
        "dfer.models.gca:GCA",
        "ResNet blocks with global convolution-attention, then what moves and what stays over time (GCA+IAL's network)",
        num_segments=16,
        input_size=112,
        one_size=True,
        fewest=2,
        source="Li et al., Intensity-Aware Loss, AAAI 2023",
        new_layers=("auxiliary2", "auxiliary3", "fc"),
        mean=NO_MEAN,
        std=UNIT_STD,
        recipe={
            "train": {
                "epochs": 100,
                "batch_size": 40,
                "optimizer": "sgd",
                "learning_rate": 0.001,
                "momentum": 0.9,
                "weight_decay": 0.1,
                "schedule": "step",
                "step_epochs": 7,
                "step_factor": 0.5,
                "augment": {"min_scale": 0.92, "horizontal_flip": 0.5},
            },
            "model": {"pretrained": None, "dropout": 0.0},
        },
    ),
    "resnet18_3d": Network(
        "dfer.models.resnet3d:ResNet3D18",
        "ResNet-18 with 3D convolutions, Hara's: a fifth of r3d_18's operations",
        num_segments=16,
        input_size=112,
        source="Hara et al., 3D ResNets, CVPR 2018",
        mean=NO_MEAN,
        std=UNIT_STD,
        recipe={"model": {"pretrained": None}},
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
        classes_of_places=True,
    ),
    "resnet18_lstm": Network(
        "dfer.models.recurrent:ResNet18LSTM",
        "ResNet-18 a frame, then an LSTM over time",
        num_segments=8,
        input_size=224,
        source="He et al., ResNet, CVPR 2016; Hochreiter and Schmidhuber, LSTM, Neural Computation 1997",
        pretrained={"imagenet": "ResNet18_Weights.IMAGENET1K_V1"},
        new_layers=("lstm", "fc"),
        stages=("layer1", "layer2", "layer3"),
        feature_map="layer4",
    ),
    "m3dfel": Network(
        "dfer.models.m3dfel:M3DFEL",
        "r3d_18 on four parts of a clip, weighed by an LSTM and attention over them (M3DFEL)",
        num_segments=16,
        input_size=112,
        fewest=4,
        multiple=4,
        source="Wang et al., M3DFEL, CVPR 2023",
        pretrained={"kinetics400": "R3D_18_Weights.KINETICS400_V1"},
        new_layers=("lstm", "qkv", "normalization", "bag", "fc"),
        trunk="trunk",
        mean=NO_MEAN,
        std=UNIT_STD,
        recipe={
            "train": {
                "epochs": 300,
                "batch_size": 256,
                "optimizer": "adamw",
                "learning_rate": 5e-4,
                "weight_decay": 0.05,
                "schedule": "cosine",
                "warmup_epochs": 20,
                "final_learning_rate": 5e-6,
                "augment": {"min_scale": 0.28, "horizontal_flip": 0.5},
            },
            "model": {"pretrained": "kinetics400", "dropout": 0.0},
        },
        stages=("trunk.layer1", "trunk.layer2", "trunk.layer3"),
        feature_map="trunk.layer4",
    ),
    "mvit_v2_s": Network(
        "dfer.models.video_transformers:MViTV2S",
        "multiscale vision transformer, MViTv2-S, torchvision's",
        num_segments=16,
        input_size=224,
        source="Li et al., MViTv2, CVPR 2022",
        pretrained={"kinetics400": "MViT_V2_S_Weights.KINETICS400_V1"},
        new_layers=("head",),
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        recipe=_FINE_TUNED,
        recordable=False,  # it looks its positions up by numbers that are made on the CPU
        class_token="blocks.15.attn",
    ),
    "swin3d_t": Network(
        "dfer.models.video_transformers:Swin3DT",
        "transformer over shifted windows in space and time, Video Swin-T, torchvision's",
        num_segments=16,
        input_size=224,
        source="Liu et al., Video Swin Transformer, CVPR 2022",
        pretrained={"kinetics400": "Swin3D_T_Weights.KINETICS400_V1"},
        new_layers=("head",),
        recipe=_FINE_TUNED,
    ),
    "stt_like": Network(
        "dfer.models.stt_like:STTLike",
        "ResNet-18's places with attention over a frame and over time in each block, after STT",
        num_segments=16,
        input_size=112,
        one_size=True,
        source="after Ma et al., STT, arXiv:2205.04749",
        mean=NO_MEAN,
        std=UNIT_STD,
        recipe={"model": {"pretrained": None}},
        reconstructed="Known: a CNN makes tokens of each frame, and every block has spatial and temporal attention. "
        "Chosen: ResNet-18 to its third stage at 112 pixels, 16 frames, four blocks of eight heads, divided attention, "
        "the mean of all tokens, no compact loss.",
    ),
    "dpcnet_like": Network(
        "dfer.models.dpcnet_like:DPCNetLike",
        "ResNet-50 on four frames, then two paths: places and frames weighed, channels and time joined, after DPCNet",
        num_segments=4,
        input_size=160,
        fewest=2,
        multiple=2,
        source="after Wang et al., DPCNet, ACM MM 2022",
        pretrained={"imagenet": "ResNet50_Weights.IMAGENET1K_V1"},
        new_layers=("places", "frames", "channels", "temporal", "fc"),
        reconstructed="Known: ResNet-50, four frames in two views, spatial-frame excitation, then channel-temporal "
        "aggregation, two paths, 51 million parameters, about 10 GFLOPs. Chosen: the form and size of both modules, "
        "every second frame as a view, 160 pixels, one more cross-entropy for each path and view in place of the "
        "losses that draw them together.",
        feature_map="layer4",
    ),
    "vgg13_lstm": Network(
        "dfer.models.vgg_lstm:VGG13LSTM",
        "VGG-13 a frame, then an LSTM over time: a baseline of FERV39k",
        num_segments=8,
        input_size=224,
        source="Wang et al., FERV39k, CVPR 2022",
        new_layers=("lstm", "fc"),
        recipe={"model": {"pretrained": None}},
        feature_map="features",
    ),
    "vgg13_lstm_two_stream": Network(
        "dfer.models.vgg_lstm:VGG13LSTMTwoStream",
        "VGG-13 with an LSTM on frames and on their differences, after FERV39k's Two VGG13-LSTM",
        num_segments=8,
        input_size=224,
        fewest=2,
        source="after Wang et al., FERV39k, CVPR 2022",
        new_layers=("lstm", "fc"),
        recipe={"model": {"pretrained": None}},
        reconstructed="Known: two streams of VGG13-LSTM with 144 million parameters together. Chosen: the second "
        "stream sees the differences of neighbouring frames; the streams share all but their convolutions, which "
        "makes 143 million.",
    ),
}


@dataclass(frozen=True)
class Mixing:
    """A way to mix the clips of a batch.

    Attributes:
        function: `module:attribute`, called as (clips, labels, *, generator, **options) -> (clips, targets); see
            `dfer.mixing`.
        options: the settings that it is called with: keys of the section `mixing`, and `ratio` of the arm.
        needs: what a network has to have for it, by the name of an attribute of `Network`.
    """

    function: str
    options: tuple[str, ...] = ("alpha", "ratio")
    needs: Literal["", "stages", "feature_map", "class_token"] = ""


MIXINGS: dict[str, Mixing] = {
    "none": Mixing("dfer.mixing.none:unmixed", options=()),
    "midas": Mixing("dfer.mixing.midas:mix"),
    "mixup": Mixing("dfer.mixing.mixup:mixup"),
    "cutmix": Mixing("dfer.mixing.cutmix:cutmix"),
    "cutmix_time": Mixing("dfer.mixing.cutmix:cutmix_time"),
    "cutmix_space_time": Mixing("dfer.mixing.cutmix:cutmix_space_time"),
    "cutout": Mixing("dfer.mixing.cutout:cutout", options=("ratio",)),
    "fmix": Mixing("dfer.mixing.fmix:fmix"),
    "resizemix": Mixing("dfer.mixing.resizemix:resizemix", options=("ratio",)),
    "saliencymix": Mixing("dfer.mixing.saliencymix:saliencymix"),
    "manifold_mixup": Mixing("dfer.mixing.hidden:manifold_mixup", needs="stages"),
    "patchup": Mixing("dfer.mixing.hidden:patchup", options=("alpha",), needs="stages"),
    "attentive_cutmix": Mixing("dfer.mixing.attention:attentive_cutmix", options=(), needs="feature_map"),
    "transmix": Mixing("dfer.mixing.attention:transmix", needs="class_token"),
}


@dataclass(frozen=True)
class Normalization:
    """What is done to a target before the loss sees it.

    Attributes:
        function: `module:attribute`, called as (targets, **options) -> targets; see `dfer.mixing.normalization`.
        options: the settings of the arm that it is called with.
    """

    function: str
    options: tuple[str, ...] = ()


NORMALIZATIONS: dict[str, Normalization] = {
    "none": Normalization("dfer.mixing.normalization:unchanged"),
    "softmax": Normalization("dfer.mixing.normalization:softmax", options=("temperature",)),
    "smooth": Normalization("dfer.mixing.normalization:smooth", options=("smoothing",)),
    "sharpen": Normalization("dfer.mixing.normalization:sharpen", options=("temperature",)),
}


@dataclass(frozen=True)
class Loss:
    """What a training makes small.

    Attributes:
        function: `module:attribute`, called as (logits, targets, **options) -> the sum of the clips' losses; see
            `dfer.losses`.
        options: the settings of the arm that it is called with.
        weighs_classes: whether it is called with `class_counts`, too: the training clips of each class.
        counts: whether its targets are counts of votes rather than their shares.
    """

    function: str
    options: tuple[str, ...] = ()
    weighs_classes: bool = False
    counts: bool = False


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss("dfer.losses.cross_entropy:cross_entropy"),
    "ial": Loss("dfer.losses.ial:ial", options=("ial_weight",)),
    "focal": Loss("dfer.losses.focal:focal", options=("focal_gamma",)),
    "class_balanced": Loss(
        "dfer.losses.class_balanced:class_balanced", options=("class_balance",), weighs_classes=True
    ),
    "logit_adjusted": Loss("dfer.losses.logit_adjusted:logit_adjusted", options=("adjustment",), weighs_classes=True),
    "brier": Loss("dfer.losses.brier:brier"),
    "dirichlet_multinomial": Loss("dfer.losses.dirichlet_multinomial:dirichlet_multinomial", counts=True),
}


@dataclass(frozen=True)
class Method:
    """A way of training with parts of its own.

    Attributes:
        outputs: how many outputs a network needs for so many classes; None: those alone.
        needs_whole_labels: whether clips must not be mixed.
        needs_classes_of_places: whether the network's classifier has to be a linear layer after a mean over places.
    """

    outputs: Callable[[int], int] | None = None
    needs_whole_labels: bool = False
    needs_classes_of_places: bool = False


RUL_FEATURES = 64
"""Features of a clip under `method: rul`, as published."""

METHODS: dict[str, Method] = {
    "none": Method(),
    "scn": Method(outputs=lambda classes: classes + 1, needs_whole_labels=True),
    "rul": Method(outputs=lambda classes: 2 * RUL_FEATURES, needs_whole_labels=True),
    "eac": Method(needs_classes_of_places=True),
}

LAYOUTS: dict[str, str] = {
    "dfew": "dfer.datasets.dfew:inspect",
    "afew": "dfer.datasets.afew:inspect",
    "ferv39k": "dfer.datasets.ferv39k:inspect",
    "crema-d": "dfer.datasets.crema_d:inspect",
    "mafw": "dfer.datasets.mafw:inspect",
    "ravdess": "dfer.datasets.ravdess:inspect",
    "ferplus": "dfer.datasets.ferplus:inspect",
    "table": "dfer.datasets.own_table:inspect",
}
"""Layout name -> `module:function` of its adapter, `(root, *, dataset, source) -> (clip table, report)`."""


_NEEDS = {
    "stages": "stages whose states can be mixed",
    "feature_map": "a last map of features",
    "class_token": "a class token",
    "classes_of_places": "a linear classifier of a mean over places",
}


def _networks_with(needed: str) -> str:
    return f"these networks have it: {', '.join(name for name, one in NETWORKS.items() if getattr(one, needed))}"


def network(name: str) -> Network:
    """The network of that name; one that is named `module:attribute` sees 8 frames of 224 pixels by default.
    Raises ValueError for a name that is neither."""
    if name in NETWORKS:
        return NETWORKS[name]
    if ":" in name:
        return Network(name, "named in the configuration", num_segments=8, input_size=224)
    raise ValueError(f"unknown model {name!r}; there are: {', '.join(NETWORKS)}, or your own as module:attribute")


def recipe_of(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The settings that a network was published with, by section; none of an unknown one, or of your own."""
    return NETWORKS[name].recipe if name in NETWORKS else {}


def mixing(name: str) -> Mixing:
    """The mixing of that name; one that is named `module:attribute` is called with all options.
    Raises ValueError for a name that is neither."""
    if problem := problem_with_name(name, MIXINGS):
        raise ValueError(f"unknown mixing {name!r}: {problem}")
    return MIXINGS.get(name, Mixing(name))


def loss(name: str) -> Loss:
    """The loss of that name; one that is named `module:attribute` is called without options.
    Raises ValueError for a name that is neither."""
    if problem := problem_with_name(name, LOSSES):
        raise ValueError(f"unknown loss {name!r}: {problem}")
    return LOSSES.get(name, Loss(name))


def normalization(name: str) -> Normalization:
    """The normalisation of that name; one that is named `module:attribute` is called without options.
    Raises ValueError for a name that is neither."""
    if problem := problem_with_name(name, NORMALIZATIONS):
        raise ValueError(f"unknown label normalisation {name!r}: {problem}")
    return NORMALIZATIONS.get(name, Normalization(name))


def choose(name: str, functions: Mapping[str, Any], kind: str) -> Any:
    """`functions[name]`, or the function that is named `module:attribute`.
    Raises ValueError for a name that is neither; `kind` says in its message what was asked for."""
    if problem := problem_with_name(name, functions):
        raise ValueError(f"unknown {kind} {name!r}: {problem}")
    return functions[name] if name in functions else load(name)


def problem_with_name(name: str, known: Iterable[str]) -> str:
    """Why a name can stand for nothing: it is not known, nor of the form `module:attribute`. Empty if it can."""
    if name in known or ":" in name:
        return ""
    return f"expected {', '.join(known)}, or your own as module:attribute{did_you_mean(name, known)}"


def load(reference: str) -> Any:
    """The attribute that `module:attribute` names, or ValueError. Errors inside the module are not caught."""
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ValueError(f"{reference!r}: no module {error.name!r}; is its folder on PYTHONPATH?") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{reference!r}: {module.__file__} has no {attribute!r}") from None
