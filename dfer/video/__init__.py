"""Reads the frames of video files, of folders of pictures and of pictures."""

from dfer.video.errors import VideoError
from dfer.video.video import Video

__all__ = ["Video", "VideoError"]
