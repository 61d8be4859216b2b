"""What is wrong with a data set before it costs a training run."""
