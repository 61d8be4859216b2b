"""Training, inference, checkpoints and compatibility with the MMRotate 0.x stack."""
