"""What a job needs of the machine: GPUs of its own, locks, and the hours asked of a queue."""
