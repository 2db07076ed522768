"""Scores of new images: from a run and image files to labels, maps and overlays."""
