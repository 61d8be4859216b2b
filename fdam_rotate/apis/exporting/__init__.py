"""Detectors as files that run without torch: backbone and neck alone, or everything up to the last suppression."""
