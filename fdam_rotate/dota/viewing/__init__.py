"""Detections to look at: one HTML page an image, with the image inside."""
