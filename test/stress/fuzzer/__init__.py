"""The fuzzer: random statements in several sessions; see fuzz.py."""
