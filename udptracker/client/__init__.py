"""The one-shot client behind `udptracker announce` and `udptracker scrape`: a client of any BEP 15 tracker.

`targets` reads what an operator names, `conversation` speaks to the tracker, `output` shows what it says, and `cli`
puts them on the command line. What a tracker says is a stranger's text and never reaches the terminal raw.
"""
