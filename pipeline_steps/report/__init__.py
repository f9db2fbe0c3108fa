"""What came out, on paper.

Steps in order: paper_table (Tables 1 and 2), contact_sheet (Figs. 6 and 8), fig5, fig7, kid_power, study and
curves (the embedded world), report (the page of a run), sbom.
"""
