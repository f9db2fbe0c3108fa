"""The networks: where they lie, how they are loaded, what each is asked.

Step: fetch_models, the one that needs a network. Parts: store (where models lie), loading, families (all that
is particular to one architecture), readers (BLIP, MiDaS), extractors (the distance S), encoders (scores),
judges (the survey's judge), blueprints (networks without weights), oracle and kid_network (the embedded
world's own), text.
"""
