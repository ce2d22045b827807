"""What is seen from outside: metrics, health, the log."""
