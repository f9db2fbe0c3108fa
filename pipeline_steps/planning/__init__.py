"""What a configuration will cost before it is run.

Step: plan. Part: footprint (operations and memory of a network, counted on the meta device).
"""
