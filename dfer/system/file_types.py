"""How to recognise videos, frames (both by suffix, in lower case) and pointer files of Git LFS (by their start)."""

DATASET_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
"""Of the clips of data sets. Other files beside them, such as an animated .gif of a clip, are no clips of their own."""

VIDEO_SUFFIXES = DATASET_SUFFIXES | {
    *(".264", ".3g2", ".3gp", ".asf", ".dv", ".f4v", ".gif", ".h264", ".hevc", ".m2ts", ".m2v", ".mod", ".mts"),
    *(".mxf", ".ogv", ".qt", ".tod", ".ts", ".vob"),
}
"""Of what cameras, phones and web pages write."""

FRAME_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
LFS_POINTER = b"version https://git-lfs"
