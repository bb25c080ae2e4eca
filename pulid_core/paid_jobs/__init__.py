"""What any service needs whose requests cost money: a record, locks, a pace, limits in time and size.

Nothing here knows which service that is; pulid_core.wavespeed does.
"""
