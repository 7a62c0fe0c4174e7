"""The stages as Prefect tasks: whether and where to run, artefacts and tracking around one call into `dfer`."""
