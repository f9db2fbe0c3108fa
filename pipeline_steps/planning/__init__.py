"""What a configuration will cost before it is run.

Step: plan. Parts: stages (what each costs), cards (what a GPU has), measured (what one reached), footprint
(operations and memory of a network, counted on the meta device).
"""
