"""One file for each architecture of a base model."""
