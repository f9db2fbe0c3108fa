"""What every server to people outside needs; it knows no phase.

Parts: sessions (a secret in a cookie, and the CSRF token that only the site's own page knows), limits (how
much one address or session may ask), shield (counting, the longest and slowest body, and the headers of
every answer), serving (which proxies are believed, and how long a half-sent request is waited for), database
(what is acknowledged is on disk), wording (sentences in several languages, and the page that holds them),
forms; gate (the limits of a site, put together).
"""
