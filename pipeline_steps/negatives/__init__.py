"""What the un-tuned model makes of each scene (paper §4.2, §4.4).

Steps in order: caption, depth, synthesize, filter; on request purge_negatives.
"""
