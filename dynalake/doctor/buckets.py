"""The prerequisites of the buckets for the quarantine and for the function's code."""

from __future__ import annotations

from collections.abc import Sequence

from dynalake.deploy.buckets import bucket_is_missing, deletes_objects, wrong_settings
from dynalake.deploy.code import OTHER_BUCKET
from dynalake.deploy.plans import Deployment
from dynalake.doctor.checkup import FailedError, Patient, Prerequisite, SkippedError, WarnedError
from ingest.quarantine import bucket_of


def of_buckets(patient: Patient) -> Sequence[Prerequisite]:
    """The prerequisites of the buckets."""
    look = _Looks(patient)
    return [
        Prerequisite("source", "quarantine", look.quarantine),
        Prerequisite("source", "code bucket", look.code),
    ]


class _Looks:
    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._redeploy = patient.redeploy("source")

    def quarantine(self) -> str:
        address = self._patient.config.quarantine
        if not address.startswith("s3://"):
            self._patient.require_deployed()
            raise FailedError(
                f"{address!r} is no bucket", f'write quarantine = "s3://…", then {self._redeploy}'
            )
        bucket = bucket_of(address)[0]
        found = self._bucket(
            bucket,
            f"choose another bucket: pipelines.{self._patient.name}.quarantine",
            kms_key=str(self._patient.config.deploy.source.get("KmsKeyArn", "")),
        )
        expires = deletes_objects(self._patient.account("source").s3(), bucket)
        return f"{found}, records {'expire' if expires else 'never expire'}"

    def code(self) -> str:
        self._patient.require_deployed()
        bucket = Deployment(self._patient.name, self._patient.config).code_bucket
        return self._bucket(bucket, OTHER_BUCKET)

    def _bucket(self, bucket: str, other: str, *, kms_key: str = "") -> str:
        s3 = self._patient.account("source").s3()
        if bucket_is_missing(s3, bucket, other):
            raise FailedError(f"the bucket {bucket} is missing", self._redeploy)
        denied: list[str] = []
        wrong = list(
            wrong_settings(
                s3,
                bucket,
                self._patient.config.source.region,
                kms_key=kms_key,
                on_denied=denied.append,
            )
        )
        if wrong:
            kind = FailedError if any(setting.is_serious for setting in wrong) else WarnedError
            raise kind(
                f"{bucket} " + "; ".join(setting.what for setting in wrong),
                "; ".join(
                    setting.command(self._patient.aws("source", f"s3api {setting.operation}"), bucket)
                    for setting in wrong
                ),
            )
        if denied:
            raise SkippedError(f"these credentials may not call {', '.join(denied)}")
        return f"{bucket}: this account's, private, encrypted, TLS only"
