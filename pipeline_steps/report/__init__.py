"""What came out of the runs: the paper's tables and figures, and one page with all of it.

Steps in the order they run:

- ``paper_table``: Tables 1 and 2, ours beside the paper's
- ``fig5``, ``fig7``: ranks given in the survey; KID against the length of training
- ``contact_sheet``: pictures of the same prompts side by side (Figs. 6 and 8)
- ``kid_power``: how many pictures KID needs
- ``study``, ``curves``: the embedded world over cultures, seeds and lengths of training
- ``report``: the page results/report.html
- ``sbom``: the software behind a run
"""
