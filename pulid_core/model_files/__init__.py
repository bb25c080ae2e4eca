"""Which model files there are, where they lie on a disk, and how they get there.

catalogue  name, size, hash, licence and source of each
finder     in which folder each is looked for, and where a new one goes
download   fetches those that are asked for
"""
