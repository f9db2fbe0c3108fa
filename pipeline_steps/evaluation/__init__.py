"""What the models draw, and how it scores (paper §5, §6).

Steps in order: fetch_prompt_set, train_prompts, sample, reconstruct, features, score, merge_scores,
breakdown, bleed. Parts: measures (every score's figures).
By hand: try_page, a page to try LoRAs out (part: trying, what it draws).
"""
