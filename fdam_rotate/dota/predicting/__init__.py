"""Detection on whole images without torch: windows, journals, merging and outputs round one small model interface."""
