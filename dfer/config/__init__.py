"""The configuration: its sections, how it is read, and what its pipelines ask for."""
