"""Pixels: image files of any size as windows of 8-bit blue, green, red; the PNG writer; georeferences."""
