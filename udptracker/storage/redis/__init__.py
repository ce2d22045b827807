"""The store on Redis or Valkey, in the key layout that chihaya documents.

`layout` knows keys, values and commands and does no I/O; `link` is one connection with many commands in flight;
`topology` finds the server, or the servers, a command belongs to; `url` reads where they are from a URL; `store` is
the `PeerStore`; `reap` walks it.
"""
