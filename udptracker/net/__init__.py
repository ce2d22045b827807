"""Sockets: datagrams in, datagrams out."""
