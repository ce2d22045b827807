"""The one-shot client behind `udptracker announce` and `udptracker scrape`."""
