"""Who may announce, and what: decided over a turn, between the tracker that reads it and the store that answers it.

The order is fixed. At the door (`Tracker.admit`), before a request is looked at, its source address is judged; whoever
is kept out there gets no answer. The rules of each part follow, those that answer at once (`Rule`) before those that
ask elsewhere (`SlowRule`), each in the order of the parts; the first refusal stands. What is left goes to the store,
and is shown to the watchers.
"""
