"""What bench/gateway.py is made of: a stub engine, load clients, the peers, and our gateway's world."""
