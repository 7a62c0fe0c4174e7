"""ResNet-18 on every frame and a recurrent layer over time: the 2DCNN-GRU of section 5.6, and with an LSTM."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast
from dfer.models.resnet import ResNet18Trunk, initialize_convolutions


class ResNet18Recurrent(ResNet18Trunk):
    """What `ResNet18GRU` and `ResNet18LSTM` share: all but the kind of the recurrent layer.

    Papers say no more than "2DCNN-GRU" or "ResNet18+LSTM". Taken here, as the plainest reading:

    - the trunk of `resnet18_tsm` without the shift, so that the two differ in how they see time and in nothing else;
    - one recurrent layer, from the first frame to the last, with half as many units as features (256 at width 1);
    - the mean of its states over time in front of the classifier, not the last state: an expression may peak anywhere
      in a clip, and at the end has often faded.

    Names and (at width 1) shapes of the trunk's parameters are those of torchvision's `resnet18`, so that its weight
    files fit; the recurrent layer and `fc` are its own.

    Attributes:
        recurrent: name of the recurrent layer, of which its parameters' names are made, and its class.
    """

    recurrent: ClassVar[tuple[str, type[nn.GRU] | type[nn.LSTM]]]
    frame_by_frame = True

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(width, BasicBlock)
        self.num_segments = num_segments
        hidden = self.num_features // 2
        name, layer = self.recurrent
        self.add_module(name, layer(self.num_features, hidden, batch_first=True))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the mean state over the segments; in float32 from the recurrent layer on, whose states add up."""
        check_clips(clips, self.num_segments)
        return self.clip_logits(self.frame_features(clips.flatten(0, 1)).unflatten(0, (-1, self.num_segments)))

    def clip_logits(self, features: Tensor) -> Tensor:
        """Of the features of a clip's frames, float[B, T, D]."""
        with without_autocast(features.device):
            states, _ = self.get_submodule(self.recurrent[0])(features.to(self.fc.weight.dtype))
            logits: Tensor = self.fc(self.dropout(states.mean(dim=1)))
        return logits


class ResNet18GRU(ResNet18Recurrent):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K]: a GRU (Chung et al. 2014, whom the paper cites)."""

    recurrent = ("gru", nn.GRU)


class ResNet18LSTM(ResNet18Recurrent):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K]: an LSTM, whose states are its hidden ones."""

    recurrent = ("lstm", nn.LSTM)
