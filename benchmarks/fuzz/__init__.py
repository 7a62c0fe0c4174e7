"""A fuzz test: thousands of damaged inputs, none of which may end in a traceback, a hang or somebody else's picture."""
