"""Faces: finding them, following one person through a clip, and aligning that face to a template."""
