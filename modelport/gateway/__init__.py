"""The request path: the one public door. It works from a snapshot of keys and routes and never waits for the store."""
