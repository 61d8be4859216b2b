"""Detections to look at: one HTML page per image, with the image inside."""
