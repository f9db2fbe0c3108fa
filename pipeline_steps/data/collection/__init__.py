"""The collection on a network: a page through which a community gives pictures, captions and consent.

Step: contributor (everything of one person, handed out or deleted). Parts: app (puts the routes together),
contributors, pictures and curators (the routes), site (what they share), store (what is kept), records (what
the curator asks of it), intake (from what was sent to a stored picture), folder (the files, and the data set
that comes out), secret (the curator's address), captions, wording.
"""
