"""A spatio-temporal transformer in the manner of STT (Ma et al. 2022), whose paper leaves much of it open."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from dfer.models.clips import check_clips, check_side
from dfer.models.precision import without_autocast
from dfer.models.resnet import ResNet18Trunk, initialize_convolutions
from dfer.models.transformer import Attention, FeedForward

SIDE = 112
PLACES = 7 * 7
"""Places of the feature map behind `layer3`, a sixteenth of the frame's side."""
BLOCKS, HEADS = 4, 8


class SpaceTimeBlock(nn.Module):
    """Attention over the places of a frame, then over the frames of a place, then a feed-forward layer.

    float[B, T, P, D] -> float[B, T, P, D]. Each is computed from its normalised input and added to it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.spatial_norm = nn.LayerNorm(dim)
        self.spatial = Attention(dim, HEADS, dim // HEADS)
        self.temporal_norm = nn.LayerNorm(dim)
        self.temporal = Attention(dim, HEADS, dim // HEADS)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, 2 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, frames, places, _ = tokens.shape
        attended = self.spatial(self.spatial_norm(tokens).flatten(0, 1))
        tokens = tokens + attended.unflatten(0, (batch, frames))
        attended = self.temporal(self.temporal_norm(tokens).transpose(1, 2).flatten(0, 1))
        tokens = tokens + attended.unflatten(0, (batch, places)).transpose(1, 2)
        out: Tensor = tokens + self.feed_forward(self.feed_forward_norm(tokens))
        return out


class STTLike(ResNet18Trunk):
    """float[B, T, 3, 112, 112] -> logits float[B, K].

    A reconstruction after Ma, Sun and Li, Spatio-Temporal Transformer for Dynamic Facial Expression Recognition in the
    Wild, arXiv:2205.04749. Known: a CNN turns each frame into tokens, and every block applies spatial and temporal
    attention. Chosen here: ResNet-18 up to its third stage (49 tokens of 256 a frame at width 1), learned positions of
    places and of frames from N(0, 0.02), four blocks of eight heads, the mean of all tokens in front of the
    classifier. The paper's compact loss is left out. The trunk's parameters have torchvision's names.

    Raises ValueError for clips of another number of frames, or of frames that are not 112 x 112.
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(width, BasicBlock)
        del self.layer4  # the tokens are the third stage's places
        self.num_segments = num_segments
        dim = self.num_features // 2
        self.spatial_positions = nn.Parameter(0.02 * torch.randn(PLACES, dim))
        self.temporal_positions = nn.Parameter(0.02 * torch.randn(num_segments, 1, dim))
        self.blocks = nn.Sequential(*(SpaceTimeBlock(dim) for _ in range(BLOCKS)))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(dim, num_classes)
        initialize_convolutions(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the tokens' mean, in float32."""
        check_clips(clips, self.num_segments)
        check_side(clips, SIDE)
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips.flatten(0, 1)))))
        x = self.layer3(self.layer2(self.layer1(x)))
        tokens = x.flatten(2).transpose(1, 2).unflatten(0, (-1, self.num_segments))
        tokens = self.blocks(tokens + self.spatial_positions + self.temporal_positions)
        with without_autocast(clips.device):
            features = tokens.to(self.fc.weight.dtype).mean(dim=(1, 2))
            logits: Tensor = self.fc(self.dropout(features))
        return logits
