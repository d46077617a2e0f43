"""The two sides' AWS sessions and clients, as the configuration gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound

from dynalake.config import SideConfig
from dynalake.errors import AccountError
from ingest.sessions import assumed_session, client_config
from lake.errors import DENIED, aws_error

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient
    from types_boto3_iam import IAMClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_s3 import S3Client
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Account:
    """One side's account, opened.

    Attributes:
        session: the session, in the role where the configuration names one.
        config: what the configuration says of this side.
    """

    session: boto3.Session
    config: SideConfig

    def dynamodb(self) -> DynamoDBClient:
        """A DynamoDB client."""
        return self.session.client("dynamodb", **self._where())

    def streams(self) -> DynamoDBStreamsClient:
        """A DynamoDB Streams client."""
        return self.session.client("dynamodbstreams", **self._where())

    def s3(self) -> S3Client:
        """An S3 client."""
        return self.session.client("s3", **self._where())

    def secrets(self) -> SecretsManagerClient:
        """A Secrets Manager client."""
        return self.session.client("secretsmanager", **self._where())

    def sqs(self) -> SQSClient:
        """An SQS client."""
        return self.session.client("sqs", **self._where())

    def cloudformation(self) -> CloudFormationClient:
        """A CloudFormation client."""
        return self.session.client("cloudformation", **self._where())

    def cloudwatch(self) -> CloudWatchClient:
        """A CloudWatch client."""
        return self.session.client("cloudwatch", **self._where())

    def iam(self) -> IAMClient:
        """An IAM client."""
        return self.session.client("iam", **self._where())

    def functions(self) -> LambdaClient:
        """A Lambda client."""
        return self.session.client("lambda", **self._where())

    def topics(self) -> SNSClient:
        """An SNS client."""
        return self.session.client("sns", **self._where())

    def scheduler(self) -> Any:
        """An EventBridge Scheduler client."""
        return self.session.client("scheduler", **self._where())

    def _where(self) -> dict[str, Any]:
        return {
            "region_name": self.config.region,
            "endpoint_url": self.config.endpoint_url,
            "config": client_config(),
        }


def open_account(side: str, config: SideConfig) -> Account:
    """Open one side.

    Args:
        side: "source" or "lake", for errors.
        config: what the configuration says of it.

    Raises:
        AccountError: there are no credentials, the role cannot be assumed, or they are another account's.
    """
    try:
        session = boto3.Session(profile_name=config.profile, region_name=config.region)
        if config.role_arn:
            session = assumed_session(
                session,
                config.role_arn,
                config.external_id,
                region=config.region,
                sts_endpoint=config.endpoint_url,
            )
        elif config.endpoint_url:
            return Account(session, config)
        sts = session.client("sts", region_name=config.region, endpoint_url=config.endpoint_url)
        found = sts.get_caller_identity()["Account"]
    except (ClientError, BotoCoreError) as error:
        raise _account_error(side, config, error) from None
    if found != config.account:
        raise AccountError(
            f"the {side} side's credentials are of account {found}, but the configuration says {config.account}",
            remedy=f"check {side}.profile and {side}.role_arn",
        )
    return Account(session, config)


def _account_error(side: str, config: SideConfig, error: ClientError | BotoCoreError) -> AccountError:
    shown = aws_error(error, side=side)
    if isinstance(error, ProfileNotFound):
        message = f"the {side} side's profile {config.profile!r} is unknown to the AWS configuration"
    elif isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        message = f"the {side} side's credentials are refused ({code})"
        if code in DENIED and config.role_arn:
            remedy = f"check that they may assume {config.role_arn}, and that {side}.external_id is right"
            return AccountError(message, remedy=remedy)
    else:
        message = f"the {side} side has no usable credentials ({shown.message})"
    return AccountError(message, remedy=shown.remedy)
