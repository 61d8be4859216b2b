"""Patch detections into detections of whole images: placing, suppression, fusion, files."""
