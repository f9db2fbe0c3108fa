"""What pages and figures share; it knows no step.

- ``charts``: lines, intervals and violins as SVG
- ``ranks``: the violins of a survey's answers (Fig. 5)
- ``labels``: the names people read for scores and survey items
- ``paper``: the figures printed in the paper
- ``pictures``: pictures as text that can stand in a page
- ``page``: the one frame and stylesheet of all pages
"""
