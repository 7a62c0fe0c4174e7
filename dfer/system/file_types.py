"""Suffixes, in lower case, of the files that are taken for videos and for frames."""

VIDEO_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
FRAME_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
