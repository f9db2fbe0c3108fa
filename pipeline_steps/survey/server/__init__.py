"""The survey on a network: the same page, its answers stored one by one."""
