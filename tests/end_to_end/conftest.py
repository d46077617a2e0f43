from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.package import Package, PackageError, build_lambda_zip
from tests.end_to_end.estate import Estate
from tests.end_to_end.ministack import Ministack, serving
from tests.environments import UnavailableError, environment, unavailable


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    try:
        return build_lambda_zip(tmp_path_factory.mktemp("package") / "lambda.zip")
    except PackageError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def ministack_python(pytestconfig: pytest.Config) -> Path:
    assert pytestconfig.cache is not None
    try:
        return environment("ministack", pytestconfig.cache.mkdir("ministack"))
    except UnavailableError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def ministack(ministack_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/dev/null")
        try:
            with serving(ministack_python, tmp_path_factory.mktemp("ministack")) as running:
                yield running
        except UnavailableError as error:
            unavailable(str(error))


@pytest.fixture(scope="session")
def estate(ministack: Ministack, package: Package) -> Estate:
    return Estate(ministack, package.path.read_bytes())
