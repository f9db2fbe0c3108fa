"""The survey on a network: the same page, its answers stored one by one.

- ``python -m pipeline_steps.survey.server``: reads what is shown and serves it
- ``app``: puts the routes together
- ``participants``, ``answers``, ``export``: the routes
- ``site``: what the routes share: contents, store, limits, who asks
- ``contents``: what is shown
- ``store``: what is kept
"""
