"""The method passes every check of the conformance kit."""

from collections.abc import Callable

from anomaly_testing import parametrize_with_checks


@parametrize_with_checks(("model", "global_knn"))
def test_conformance(check: Callable[[], None]) -> None:
    check()
