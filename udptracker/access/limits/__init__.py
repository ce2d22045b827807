"""How much one address may ask, and how many peers it may hold.

`door` keeps the token buckets of sources, in a `table` of fixed size; `peers` counts the peers of each. `part` puts
them among the parts of the access control and says in the log, once a minute, what they have found (`offenders`).
"""
