"""Which files are taken for videos and for frames, by the end of their name in lower case."""

VIDEO_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
FRAME_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png"})
