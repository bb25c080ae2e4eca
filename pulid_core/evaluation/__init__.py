"""How alike, by what measure: many people through fixed prompts, judged, in one table and one sheet.

prompts   the twenty prompts, in four groups
people    reference and held-out photos of each person, from a folder or a list of addresses
judging   the figures of one picture: similarity, copy-paste, pose
pose      how a head is turned, from five key points
record    what is known of each picture, kept over runs
table     the figures of a group, and the table
command   `pulid.py evaluate`; who paints is pulid_core.portraits
"""
