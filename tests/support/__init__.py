"""What the tests run against: real stores, the daemon as a subprocess, and clients for both."""
