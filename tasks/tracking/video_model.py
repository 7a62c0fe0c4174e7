"""The model in MLflow that takes encoded videos. MLflow keeps this file with it and runs it when the model is loaded,
so that nothing is unpickled."""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel


class VideoModel(PythonModel):
    """Videos in base64 -> the rows of the predictions table. It needs this project to be installed where it runs."""

    def load_context(self, context: Any) -> None:
        import dfer

        self._model = dfer.load(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        from dfer.config.problems import InputError
        from dfer.prediction.encoded import predict_encoded

        try:
            return predict_encoded(self._model, model_input["video"].tolist(), **(params or {}))
        except InputError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


set_model(VideoModel())
