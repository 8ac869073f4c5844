"""The trace page: what a written text drew from a memory, as one JSON object and as one HTML file."""
