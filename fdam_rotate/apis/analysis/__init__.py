"""What a model does to frequencies and ranks, what it costs, and how fast it is."""
