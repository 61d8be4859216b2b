"""Images and labels into patches: options, which objects go to a patch, the worker, the run."""
