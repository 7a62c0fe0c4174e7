"""MLflow: what it is told, kept on disk until it is delivered."""
