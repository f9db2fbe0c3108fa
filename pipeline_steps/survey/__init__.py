"""The human survey (paper §5): its pages, its answers and what they sum up to.

Steps in the order they run:

- ``survey_pages``: draws the pages and says who sees which
- ``survey_html``: the page as one file; or ``server``: the same page on a network
- ``survey_simulate``: simulated participants, to try the rest out
- ``survey_import``: collected answers, checked
- ``survey_aggregate``: MMSR+Vote and statistics
- ``survey_power``: how many people to ask
- ``survey_report``: all of it on one page

Parts:

- ``shown``: what participants see; ``wording``: every sentence of it
- ``answer_files``: the forms in which answers arrive
"""
