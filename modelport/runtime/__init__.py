"""The runtime: Modelport's own model server, one model per process, for what no engine serves."""
