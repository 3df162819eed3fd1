"""The task that finds the model of a night: MLflow is asked again when it is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.context import model_ref
from flows.errors import StoreError
from flows.lifecycle import notice_live
from flows.retries import STORE_FAILED

if TYPE_CHECKING:
    from flows.config import Pipeline
    from flows.registry import ModelRef

__all__ = ["model_task"]


def find_model(pipeline: Pipeline, version: str | None = None) -> ModelRef:
    """The version asked for, else the live one; a journal that cannot be kept does not stop a night."""
    ref = model_ref(pipeline, version)
    if version is None:
        try:
            notice_live(pipeline, ref)
        except StoreError as error:
            get_run_logger().warning(str(error))
    return ref


model_task = task(name="find model", cache_policy=NO_CACHE, persist_result=False, **STORE_FAILED)(find_model)
