"""Checkpoints: opened as tensors only, keys mapped, converted, every tensor reported."""
