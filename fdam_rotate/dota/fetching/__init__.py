"""Downloading and unpacking DOTA."""
