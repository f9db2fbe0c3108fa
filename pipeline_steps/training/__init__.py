"""From the caches to a LoRA (paper §4).

Steps in order: cache, targets, cache_negatives (for baselines), train, export, hub (a folder to be uploaded).
Parts: dataset (which picture comes when), trainer (one update), parallel (several GPUs), optimiser, latents,
merged (weights for the calls without gradient), checkpoints, boards, header (what a LoRA's file says of
itself).
"""
