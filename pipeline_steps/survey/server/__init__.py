"""The survey on a network: the same page, its answers stored one by one.

Parts: app (puts the routes together), participants, answers and admin (the routes), export (the answers as
files), site (what they share), contents (what is shown), store (what is kept), records (what an administrator
asks of it).
"""
