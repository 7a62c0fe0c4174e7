"""A network of your own: a class that is built from four numbers. With this file's folder on PYTHONPATH:

PYTHONPATH=docs/examples dfer run demo --set model.name=own_model:MobileFrames --set model.pretrained=null
"""

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small


class MobileFrames(nn.Module):
    """MobileNetV3 looks at every frame, the mean of the frames' logits decides.

    Input float [clips, segments, 3, height, width], output logits [clips, classes].
    """

    def __init__(self, num_classes: int, num_segments: int, width: float, dropout: float) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.frames = mobilenet_v3_small(weights=None, num_classes=num_classes, dropout=dropout, width_mult=width)

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.frames(clips.flatten(0, 1))
        return logits.unflatten(0, (-1, self.num_segments)).mean(dim=1)
