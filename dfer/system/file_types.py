"""How to recognise videos, frames (both by suffix, in lower case) and pointer files of Git LFS (by their start)."""

VIDEO_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
FRAME_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
LFS_POINTER = b"version https://git-lfs"
