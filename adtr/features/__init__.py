"""Frozen backbones, and the store of what they give."""
