"""What `benches/peers.py` and `benches/instructions.py` are made of."""
