"""What the models draw, and how it scores (paper §5, §6).

Steps in order: train_prompts, sample, reconstruct, features, score, merge_scores.
By hand: try_page, a page to try LoRAs out (part: trying, what it draws).
"""
