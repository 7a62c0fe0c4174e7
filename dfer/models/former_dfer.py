"""Former-DFER (Zhao and Liu 2021): a ResNet-18 with a transformer over the places of a frame, and one over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from dfer.models.clips import check_clips, check_side
from dfer.models.precision import without_autocast
from dfer.models.resnet import ResNet18Trunk, initialize_convolutions
from dfer.models.transformer import TransformerBlock

HEADS = 8
SIDE = 112
PLACES = 7 * 7
"""Places of the feature map behind `layer3`, a sixteenth of the frame's side."""


class FormerDFER(ResNet18Trunk):
    """float[B, T, 3, 112, 112], pixels in [0, 1] -> logits float[B, K].

    Zhao and Liu, "Former-DFER: Dynamic Facial Expression Recognition Transformer", ACM MM 2021:

    - a frame alone (S-Former): ResNet-18 up to its third stage; its 49 places, with learned positions, go through one
      transformer block, and come back as a map to the fourth stage; mean over places;
    - the T features and a class token, with learned positions, through three blocks (T-Former); the classifier sees
      the class token.

    The paper has no dropout: give `dropout` 0 to train as it did. Positions and class token start from N(0, 1). Width
    scales the channels of both transformers with the trunk's; they keep eight heads. The trunk's parameters have
    torchvision's names.

    Raises ValueError for clips of another number of frames, or of frames that are not 112 x 112.
    """

    frame_by_frame = True

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(width, BasicBlock)
        self.num_segments = num_segments
        dim = self.num_features
        places_dim = dim // 2
        self.spatial_positions = nn.Parameter(torch.randn(1, PLACES, places_dim))
        self.spatial = nn.Sequential(TransformerBlock(places_dim, HEADS, places_dim // HEADS, 2 * places_dim))
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.temporal_positions = nn.Parameter(torch.randn(1, 1 + num_segments, dim))
        self.temporal = nn.Sequential(*(TransformerBlock(dim, HEADS, dim // HEADS, 2 * dim) for _ in range(3)))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(dim, num_classes)
        initialize_convolutions(self)

    def frame_features(self, frames: Tensor) -> Tensor:
        """S-Former, float[N, 3, 112, 112] -> float[N, D]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(frames))))
        x = self.layer3(self.layer2(self.layer1(x)))
        places = self.spatial(x.flatten(2).transpose(1, 2) + self.spatial_positions)
        x = self.layer4(places.transpose(1, 2).unflatten(2, x.shape[2:]))
        return self.avgpool(x).flatten(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the class token behind T-Former, in float32."""
        check_clips(clips, self.num_segments)
        check_side(clips, SIDE)
        return self.clip_logits(self.frame_features(clips.flatten(0, 1)).unflatten(0, (-1, self.num_segments)))

    def clip_logits(self, features: Tensor) -> Tensor:
        """T-Former and the classifier, of the features of a clip's frames, float[B, T, D]."""
        token = self.class_token.expand(features.shape[0], -1, -1)  # `len` would fix the batch of a graph
        states = self.temporal(torch.cat((token, features), dim=1) + self.temporal_positions)
        with without_autocast(features.device):
            logits: Tensor = self.fc(self.dropout(states[:, 0].to(self.fc.weight.dtype)))
        return logits
