"""The figures the paper prints, over all five cultures: its networks, pictures and people are not ours."""

from pipeline_steps.config import Variant
from pipeline_steps.drawing.labels import SURVEY_ITEMS

TABLES: dict[int, dict[Variant, tuple[float, ...]]] = {
    1: {
        "sd": (30.355, 4.396, 0.813, 3.09, 3.07, 2.98, 3.07),
        "scoft_m": (22.643, 4.711, 0.802, 2.57, 2.56, 2.66, 2.59),
        "scoft_mp": (21.360, 4.936, 0.800, 2.33, 2.35, 2.34, 2.30),
        "scoft_mpc": (19.621, 4.819, 0.799, 1.83, 1.84, 1.91, 1.78),
    },
    2: {
        "ldm": (0.912, 0.836, 0.591, 0.302, 0.317, 0.824),
        "scoft_m": (0.897, 0.808, 0.550, 0.356, 0.379, 0.814),
    },
}
"""Tables 1 (KID on CCUB and MS-COCO × 10³, CLIPScore, the survey's mean ranks) and 2 (CLIP-I, DINO, DreamSim,
DIV on training and on test prompts, CLIPScore)."""
RANKS = {variant: printed[-len(SURVEY_ITEMS) :] for variant, printed in TABLES[1].items()}
"""Mean ranks by survey item, of 51 participants of five countries (Table 1)."""
WINS = {"scoft_m over sd": 0.63, "scoft_mp over scoft_m": 0.56, "scoft_mpc over scoft_mp": 0.62}
"""Shares of rankings for offensiveness in which the first is ranked better (§6)."""
