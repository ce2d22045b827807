"""The commands of an operator: `announce`, `scrape` and `probe` of any BEP 15 tracker, `swarm` and `swarms` of a store,
`top` of running nodes.

`targets` reads what an operator names, `conversation` speaks to a tracker, `output` shows what it says. What a tracker,
a store or a node says is a stranger's text and never reaches the terminal raw.
"""
