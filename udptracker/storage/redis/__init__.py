"""The store on Redis or Valkey, in the key layout that chihaya documents.

`layout` knows keys, values and commands and does no I/O; `rounds` plans a batch with them and reads its replies;
`store` is the `PeerStore`; `reap` walks it. The connections are those of `udptracker.redis`.
"""
