"""How hard to look: a little on every change, more by ``--hypothesis-profile=long``."""

from hypothesis import HealthCheck, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

settings.register_profile(
    "ci",
    max_examples=20,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=SLOW_IS_FINE,
)
settings.register_profile(
    "long", max_examples=500, stateful_step_count=30, deadline=None, suppress_health_check=SLOW_IS_FINE
)
settings.load_profile("ci")
