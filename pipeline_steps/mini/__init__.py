"""The embedded world: how its pictures are drawn and its models trained.

Everything here is synthetic. The motifs were assigned to culture names by a fixed table with
no regard to what they look like; they say nothing about any real culture.
"""
