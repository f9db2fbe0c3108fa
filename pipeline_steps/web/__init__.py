"""What every server to people outside needs; it knows no phase.

- ``sessions``: a secret in a cookie, and the CSRF token that only the site's own page knows
- ``limits``: how much one address or session may ask in a minute
- ``shield``: the longest body, and the headers of every answer
"""
