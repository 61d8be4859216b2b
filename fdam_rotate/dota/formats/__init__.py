"""Label and detection formats of others, read and written."""
