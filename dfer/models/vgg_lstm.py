"""VGG-13 on every frame and an LSTM over time, with one stream or two: baselines of FERV39k (Wang et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast
from dfer.models.resnet import initialize_convolutions, stem_channels


class VGG13LSTM(nn.Module):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K].

    VGG-13 without BatchNorm (Simonyan and Zisserman, ICLR 2015) up to its second layer of 4096, an LSTM of 256 units
    over the frames, and a classifier of its last state. FERV39k names the network and its 133 million parameters, and
    the head is the one that has as many. Names and (at width 1) shapes of the first layers, `features` and
    `classifier`, are those of torchvision's `vgg13`; `dropout` is between the layers of 4096, too.
    """

    frame_by_frame = True

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        self.num_segments = num_segments
        stem = stem_channels(width)
        hidden = 4 * stem
        self.features = _tower(stem)
        self.classifier = nn.Sequential(
            nn.Linear(8 * stem * 7 * 7, 64 * stem),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(64 * stem, 64 * stem),
            nn.ReLU(inplace=True),
        )
        self.lstm = nn.LSTM(64 * stem, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, num_classes)
        _initialize(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the last state; in float32 from the LSTM on."""
        check_clips(clips, self.num_segments)
        return self.clip_logits(self.frame_features(clips.flatten(0, 1)).unflatten(0, (-1, self.num_segments)))

    def frame_features(self, frames: Tensor) -> Tensor:
        """float[N, 3, H, W] -> float[N, 4096]."""
        return self._of_frames(self.features, frames)

    def clip_logits(self, features: Tensor) -> Tensor:
        """Of the features of a clip's frames, float[B, T, 4096]."""
        with without_autocast(features.device):
            logits: Tensor = self.fc(self.dropout(self._last_states(features)))
        return logits

    def _of_frames(self, tower: nn.Module, frames: Tensor) -> Tensor:
        features: Tensor = self.classifier(seven_by_seven(tower(frames)).flatten(1))
        return features

    def _last_states(self, features: Tensor) -> Tensor:
        """float[B, T, 4096] -> float[B, 256]."""
        with without_autocast(features.device):
            states, _ = self.lstm(features.to(self.fc.weight.dtype))
        last: Tensor = states[:, -1]
        return last


class VGG13LSTMTwoStream(VGG13LSTM):
    """float[B, T, C, H, W] with C = 3 and T of 2 or more -> logits float[B, K].

    A reconstruction of FERV39k's Two VGG13-LSTM, of which the name and 144 million parameters are known. Chosen here:
    the second stream sees the differences of neighbouring frames; each stream has its own convolutions (`features`,
    `motion_features`), the layers of 4096 and the LSTM are shared, and the classifier sees both last states.
    """

    frame_by_frame = False

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        """ValueError for fewer than two frames."""
        if num_segments < 2:
            raise ValueError(
                f"vgg13_lstm_two_stream looks at differences between frames and needs two or more, found "
                f"{num_segments}: set sampling.num_segments to 2 or more, or to 0 for its own 8"
            )
        super().__init__(num_classes, num_segments, width, dropout)
        stem = stem_channels(width)
        self.motion_features = _tower(stem)
        self.fc = nn.Linear(2 * 4 * stem, num_classes)
        _initialize(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of both last states; in float32 from the LSTM on."""
        check_clips(clips, self.num_segments)
        streams = ((self.features, clips), (self.motion_features, clips.diff(dim=1)))
        states = [
            self._last_states(self._of_frames(tower, frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))
            for tower, frames in streams
        ]
        with without_autocast(clips.device):
            logits: Tensor = self.fc(self.dropout(torch.cat(states, dim=1)))
        return logits


def seven_by_seven(x: Tensor) -> Tensor:
    """float[N, C, H, W] -> float[N, C, 7, 7], torchvision's AdaptiveAvgPool2d(7) in front of VGG's first linear layer.

    As a product with the weights of each side, since the pooling's own gradient on a GPU is not deterministic.
    """
    if x.shape[2:] == (7, 7):
        return x
    rows, columns = (
        functional.adaptive_avg_pool1d(torch.eye(side, dtype=x.dtype, device=x.device), 7) for side in x.shape[2:]
    )
    return torch.einsum("nchw,hi,wj->ncij", x, rows, columns)


def _tower(stem: int) -> nn.Sequential:
    """The ten 3x3 convolutions of VGG-13 in five pairs, each followed by a max-pooling."""
    layers: list[nn.Module] = []
    channels_in = 3
    for channels in (stem, 2 * stem, 4 * stem, 8 * stem, 8 * stem):
        for _ in range(2):
            layers += [nn.Conv2d(channels_in, channels, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            channels_in = channels
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def _initialize(network: nn.Module) -> None:
    """As torchvision draws its VGG: He et al.'s weights for convolutions, N(0, 0.01) for `classifier`, biases of 0."""
    initialize_convolutions(network)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and name.startswith("classifier."):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
