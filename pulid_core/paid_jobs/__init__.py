"""What any service needs whose requests cost money: a record, locks, a pace, limits in time and size.

Nothing here knows which service that is; pulid_core.wavespeed does.

journal    what was ordered and paid, and in which state each job is
database   the file below it, which notices that it is damaged, lost or an old copy
locks      between threads and processes
pacing     how often, and how many at once
store      delivered files
transport  requests with limits of time, size and redirects
exchange   what left and what came, as seen on the wire
addresses  which hosts may be spoken to
crew       threads that work on named jobs
clock      time as an argument
errors     errors that know whether somebody paid
"""
