"""Transformers for video that torchvision has Kinetics weights for: MViTv2 and Video Swin."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video import MViT, SwinTransformer3d
from torchvision.models.video.mvit import MSBlockConfig

from dfer.models.clips import check_clips
from dfer.models.precision import without_autocast


class MViTV2S(MViT):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K]: torchvision's `mvit_v2_s`.

    Li et al., MViTv2, CVPR 2022. Names and (at width 1) shapes of the parameters are torchvision's, so that its weight
    files fit. Unlike torchvision's it takes any number of frames and any size: its relative positions are those of 16
    frames of 224 pixels, and are interpolated for others (torch has no deterministic gradient of that on a GPU, and
    stops a training with `train.deterministic`). The last block is read at its class token alone, which has no
    position: its relative positions and the convolution of its queries get gradients of zero.
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        channels = max(8, round(96 * width))
        super().__init__(
            spatial_size=(224, 224),
            temporal_size=16,
            block_setting=_mvit_blocks(channels),
            residual_pool=True,
            residual_with_cls_embed=False,
            rel_pos_embed=True,
            proj_after_attn=True,
            dropout=dropout,
            stochastic_depth_prob=0.2,
            num_classes=num_classes,
        )
        self.num_segments = num_segments
        self.dropout = self.head[0]

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the class token, in float32."""
        check_clips(clips, self.num_segments)
        x = self.conv_proj(clips.transpose(1, 2))
        grid = tuple(x.shape[2:])
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))  # puts the class token in front; it has no positions
        for block in self.blocks:
            x, grid = block(x, grid)
        features = self.norm(x)[:, 0]
        with without_autocast(clips.device):
            logits: Tensor = self.head(features.to(self.head[1].weight.dtype))
        return logits


def _mvit_blocks(channels: int) -> list[MSBlockConfig]:
    """The four stages of MViTv2-S: queries are halved where a stage begins, keys and values always pooled to 7 x 7."""
    blocks: list[MSBlockConfig] = []
    channels_in = channels
    for depth, heads, kv_stride in ((1, 1, 8), (2, 2, 4), (11, 4, 2), (2, 8, 1)):
        for number in range(depth):
            q_stride = 2 if heads > 1 and number == 0 else 1
            blocks.append(
                MSBlockConfig(
                    num_heads=heads,
                    input_channels=channels_in,
                    output_channels=heads * channels,
                    kernel_q=[3, 3, 3],
                    kernel_kv=[3, 3, 3],
                    stride_q=[1, q_stride, q_stride],
                    stride_kv=[1, kv_stride, kv_stride],
                )
            )
            channels_in = heads * channels
    return blocks


class Swin3DT(SwinTransformer3d):
    """float[B, T, C, H, W] with C = 3 -> logits float[B, K]: torchvision's `swin3d_t`, with a dropout.

    Liu et al., Video Swin Transformer, CVPR 2022. Names and (at width 1) shapes of the parameters are torchvision's, so
    that its weight files fit. Any number of frames and any size: frames are padded to whole windows of 8 x 7 x 7
    patches, where they are larger than one.
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__(
            patch_size=[2, 4, 4],
            embed_dim=3 * max(4, round(32 * width)),  # three heads, and as large ones in every stage
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=[8, 7, 7],
            stochastic_depth_prob=0.1,
            num_classes=num_classes,
        )
        self.num_segments = num_segments
        self.dropout = nn.Dropout(dropout)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of the patches' mean, in float32."""
        check_clips(clips, self.num_segments)
        x = self.norm(self.features(self.patch_embed(clips.transpose(1, 2))))
        features = self.dropout(x.mean(dim=(1, 2, 3)))
        with without_autocast(clips.device):
            logits: Tensor = self.head(features.to(self.head.weight.dtype))
        return logits
