"""Asking people (paper §5): pages, answers, and what they say.

Steps in order: survey_people, survey_codes, survey_pages, survey_html, survey_simulate, survey_import,
survey_aggregate, survey_power, survey_report, judge, agreement. Parts: wording, shown (what participants
see), codes (who is let in), answer_files (the forms answers come in), rounds (what stood where, kept for
answers to former pages), server (the same survey over a network).
"""
