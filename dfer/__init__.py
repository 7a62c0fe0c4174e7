"""Dynamic facial expression recognition with soft labels: the library under the pipeline.

Everything here works without an orchestrator and without an experiment tracker: it computes on arrays and paths.
"""

__version__ = "0.1.0"
