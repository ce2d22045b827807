"""Lists that are alive: torrents, clients and networks allowed or denied, and passkeys.

`tables` holds the entries of one source, in little memory, and changes while it is asked. Sources are the configuration
itself, files (`files`), and Redis (`ledger`, what is kept there; `shared`, how a node follows it; `cache`, for a start
without it). `rules` decide by the tables of all sources together; `part` keeps them up to date.
"""
