"""What the training step is made of: the dataset, the trainer and its checkpoints."""
