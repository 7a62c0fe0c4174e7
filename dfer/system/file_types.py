"""How to recognise videos, frames (both by suffix, in lower case) and pointer files of Git LFS (by their start)."""

DATASET_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
"""Of the clips of data sets. Other files beside them, such as an animated .gif of a clip, are no clips of their own."""

VIDEO_SUFFIXES = DATASET_SUFFIXES | {".3g2", ".3gp", ".asf", ".gif", ".m2ts", ".m2v", ".mts", ".ogv", ".ts", ".vob"}
"""Of what cameras, phones and web pages write."""

FRAME_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
LFS_POINTER = b"version https://git-lfs"
