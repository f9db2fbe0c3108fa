"""What came out, on paper.

Steps: paper_table, contact_sheet, fig5, fig7, kid_power, study, curves, report, sbom.
"""
