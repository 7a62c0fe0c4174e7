"""Looking at pipelines and work directories without running anything."""
