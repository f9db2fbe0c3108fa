"""What networks of the published sizes show, with random weights: run by hand, ``pytest tests/real_size``."""
