"""What pages and figures share.

Parts: charts (lines, intervals and violins as SVG), ranks (the violins of a survey's answers), labels (the
names people read for scores and survey items), paper (the figures it prints), pictures (as text that can
stand in a page), page (the one frame and stylesheet).
"""
