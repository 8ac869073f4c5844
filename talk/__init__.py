"""A chat that remembers: the talk itself, its commands, the terminal, the server."""
