"""Connections to Redis or Valkey for whoever needs them: where it is, one connection, one server or several."""
