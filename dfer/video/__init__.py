"""Reads the frames of video files and of folders of pictures."""

from dfer.video.errors import VideoError
from dfer.video.video import Video

__all__ = ["Video", "VideoError"]
