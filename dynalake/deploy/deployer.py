"""The sides of one pipeline, deployed: what is in the way, the plans, and noting that the pipeline exists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from dynalake.aws import Account
from dynalake.config import PipelineConfig
from dynalake.deploy.buckets import bucket_is_missing
from dynalake.deploy.code import key_of, stored_version, upload
from dynalake.deploy.names import checks_stack_name, stack_name
from dynalake.deploy.plans import Code, Deployment, Plan, Side, table_is_missing
from dynalake.deploy.preflight import (
    Finding,
    look_at_buckets,
    look_at_lake,
    look_at_source,
    look_for_another_table,
    refuse,
)
from dynalake.deploy.stacks import Stacks, stacks_of
from dynalake.errors import DeployError
from dynalake.pipeline import Pipeline
from ingest.checkpoints import Checkpoints, StreamCheckpoint
from lake.contract.versions import label_of_stream
from lake.tables import Step, TableKey

SIDES: Final[tuple[Side, ...]] = ("lake", "source")
"""In the order in which they are made: the function finds its lake when it starts."""


class Deployer:
    """Deploys one pipeline with the accounts that are at hand."""

    def __init__(
        self,
        name: str,
        config: PipelineConfig,
        source: Account | None,
        lake: Account | None,
        *,
        key: TableKey | None = None,
        accepts_recreated: bool = False,
    ) -> None:
        """Deploy this pipeline.

        Args:
            name: the pipeline's name.
            config: its configuration.
            source: the source account, where its credentials are at hand.
            lake: the lake account, likewise.
            key: the lake table's key, where the source account cannot be asked for it.
            accepts_recreated: whether a source table that was recreated with the same key takes the place of the
                earlier one; see `Pipeline.setup`.

        Raises:
            DeployError: the configuration lacks what a deployment needs.
        """
        self.deployment = Deployment(name, config)
        _ = self.deployment.checks_side  # a target elsewhere is refused before anything is made
        self._source = source
        self._lake = lake
        self._key = key
        self._accepts_recreated = accepts_recreated

    def stacks(self, side: Side) -> Stacks:
        """The stacks of a side's account."""
        return stacks_of(side, self.deployment.config, self._account(side))

    def findings(self, side: Side) -> Iterator[Finding]:
        """What is in the way on a side.

        Raises:
            SourceChangedError: the source table is not the one that the pipeline was set up for.
            SourceError: the source table cannot be replicated.
            PolicyError: the policy cannot be carried out.
            DeployError: the function's environment would be too large, or a bucket is another account's.
        """
        account, stacks = self._account(side), self.stacks(side)
        if self._source is not None:
            # So that the lake side is not made for a function that cannot be.
            refuse(look_at_buckets(self.deployment, self._source.s3()))
            self._source_plan(self._code())
        if side == "lake":
            source = self.deployment.config.source
            arn = f":{source.region}:{source.account}:table/{source.table}"
            yield from look_at_lake(
                self.deployment, account.dynamodb(), account.iam(), stacks, self._lake_key(), arn
            )
        else:
            pipeline = self._pipeline
            _ = pipeline.lake_key  # a policy that cannot be carried out stops here
            if self._lake is not None:
                pipeline.check_source(accepts_recreated=self._accepts_recreated)
            elif not self._accepts_recreated:
                yield from look_for_another_table(self.deployment.pipeline, stacks, pipeline.described_source)
            yield from look_at_source(
                self.deployment,
                account.dynamodb(),
                account.iam(),
                account.functions(),
                stacks,
                pipeline.described_source,
            )

    def plans(self, side: Side, code: bytes = b"") -> list[Plan]:
        """The stacks of a side, in the order in which they are made; nothing is made yet.

        Args:
            side: which side.
            code: the function's zip, for the source side.
        """
        checks = [self.deployment.checks()] if self.deployment.checks_side == side else []
        if side == "lake":
            return [*self._shared(), self._lake_plan(), *checks]
        return [self._source_plan(self._code(code)), *checks]

    def leftover(self, side: Side) -> str | None:
        """The stack of a schedule that the configuration no longer has on this side; None if there is none."""
        stack = checks_stack_name(self.deployment.pipeline)
        if self.deployment.checks_side == side or self.stacks(side).find(stack) is None:
            return None
        return stack

    def bring(self, code: bytes) -> str:
        """Upload the function's zip to the source account.

        Returns:
            The version of the stored object; empty if the bucket keeps no versions.

        Raises:
            DeployError: the bucket is another account's, or refuses.
        """
        deployment = self.deployment
        return upload(
            self._account("source").s3(),
            deployment.code_bucket,
            code,
            deployment.config.source.region,
            is_ours=deployment.config.deploy.code_bucket is None,
        )

    def note(self) -> list[Step] | None:
        """Write down in the lake that the pipeline exists; None where only one account is at hand.

        Where the source's stream is another than the one noted, a gap is: between the two no change was kept.
        """
        if self._source is None or self._lake is None:
            return None
        steps = self._pipeline.setup(accepts_recreated=self._accepts_recreated)[0]
        config = self.deployment.config
        checkpoints = Checkpoints(self._lake.dynamodb(), config.checkpoint_table, config.lake_table)
        noted, arn = checkpoints.stream(), self._pipeline.described_source.stream_arn
        if noted is not None and noted.arn != arn:
            label = label_of_stream(arn)
            self._pipeline.health_store.open_gap(
                f"stream-changed/{label}",
                "stream changed",
                f"changes before {label.replace('T', ' ')[:19]} UTC may be lost (the stream was switched off and on)",
            )
            checkpoints.note_stream(StreamCheckpoint(arn, self._pipeline.now_ms()))
            steps.append(Step("the gap between the old stream and the new one", "noted"))
        return steps

    @cached_property
    def _pipeline(self) -> Pipeline:
        return Pipeline(
            self.deployment.pipeline,
            self.deployment.config,
            self._account("source"),
            self._lake or Account("lake", self.deployment.config.lake, self.deployment.pipeline),
            environment=os.environ,
        )

    def _account(self, side: Side) -> Account:
        account = self._source if side == "source" else self._lake
        if account is None:
            raise DeployError(
                f"the {side} account's credentials are not at hand",
                remedy=f"set {side}.profile in the configuration"
                + (
                    ", or give the source table's key with --key NAME:TYPE[,NAME:TYPE]"
                    if side == "source"
                    else ""
                ),
            )
        return account

    def _lake_key(self) -> TableKey:
        return self._key or self._pipeline.lake_key

    def _shared(self) -> list[Plan]:
        plan = self.deployment.shared()
        dynamodb, config = self._account("lake").dynamodb(), self.deployment.config
        names = (config.catalogue_table, config.checkpoint_table)
        missing = [table_is_missing(dynamodb, name) for name in names]
        if not any(missing) and self.stacks("lake").find(plan.stack) is None:
            return []  # made by `dynalake setup`, or kept when an earlier stack was taken away
        return [plan]

    def _lake_plan(self) -> Plan:
        stack = stack_name(self.deployment.pipeline, "lake")
        missing = table_is_missing(self._account("lake").dynamodb(), self.deployment.config.lake_table)
        makes_table = missing or self.stacks("lake").has(stack, "Table")
        return self.deployment.lake(self._lake_key(), makes_table=makes_table, shared_key=self._shared_key())

    def _shared_key(self) -> str:
        """The customer key of the shared tables, as this configuration or an earlier deployment says; empty if none."""
        shared = self.deployment.shared()
        kept = self.stacks("lake").parameters(shared.stack)
        return str(shared.parameters.get("KmsKeyArn", kept.get("KmsKeyArn", "")))

    def _code(self, code: bytes = b"") -> Code:
        """Where the zip is; without a version if it has to be brought there first, or is not known yet."""
        bucket = self.deployment.code_bucket
        version = stored_version(self._account("source").s3(), bucket, code) if code else None
        return Code(bucket, key_of(code), version or "")

    def _source_plan(self, code: Code) -> Plan:
        quarantine, stack = self.deployment.quarantine()[0], stack_name(self.deployment.pipeline, "source")
        missing = bucket_is_missing(self._account("source").s3(), quarantine)
        table = self._pipeline.described_source
        return self.deployment.source(
            table.key,
            table.stream_arn,
            code,
            makes_bucket=missing or self.stacks("source").has(stack, "Quarantine"),
            replicated_ttl=self._pipeline.origin.replicated_ttl,
        )
