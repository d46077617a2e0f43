"""The two sides' AWS sessions and clients, as the configuration gives them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ProfileNotFound
from botocore.parsers import ResponseParserError

from dynalake.config import SideConfig
from dynalake.errors import AccountError
from ingest.buckets import OwnerOf, s3_client
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


class Account:
    """One side's account, opened by the first call that needs it, so that a job asks only for what it uses."""

    def __init__(self, side: str, config: SideConfig, pipeline: str = "") -> None:
        """Describe one side; nothing is opened yet.

        Args:
            side: "source" or "lake", for errors.
            config: what the configuration says of it.
            pipeline: the pipeline's name, for the names of sessions in CloudTrail.
        """
        self.config = config
        self._pipeline = pipeline
        self._side = side
        self._lock = threading.Lock()
        self._session: boto3.Session | None = None
        self._clients: dict[str, Any] = {}

    @property
    def session(self) -> boto3.Session:
        """The session, in the role where the configuration names one; its account has been checked.

        Raises:
            AccountError: there are no credentials, the role cannot be assumed, or they are another account's.
        """
        with self._lock:
            if self._session is None:
                self._session = _opened(self._side, self.config, self._pipeline)
            return self._session

    def dynamodb(self) -> DynamoDBClient:
        """A DynamoDB client."""
        client: DynamoDBClient = self._client("dynamodb")
        return client

    def scanner(self) -> DynamoDBClient:
        """A DynamoDB client for one `lake.pages.RawScan`, which changes how its client reads the answers to Scan."""
        client: DynamoDBClient = self._new_client("dynamodb")
        return client

    def streams(self) -> DynamoDBStreamsClient:
        """A DynamoDB Streams client."""
        client: DynamoDBStreamsClient = self._client("dynamodbstreams")
        return client

    def s3(self) -> S3Client:
        """An S3 client for buckets of this account, unless the configuration's `bucket_owners` names another owner.

        S3 refuses its requests to any other account's bucket.
        """
        return self._s3(self.bucket_owner, "s3")

    def s3_of_any_owner(self) -> S3Client:
        """An S3 client for buckets that the user names, which may be another account's.

        The owner is checked where the configuration's `bucket_owners` names one.
        """
        return self._s3(self.config.owner_of_bucket, "s3 of any owner")

    def bucket_owner(self, bucket: str) -> str:
        """The account that a bucket which dynalake works with by itself must belong to."""
        return self.config.owner_of_bucket(bucket) or self.config.account

    def secrets(self) -> SecretsManagerClient:
        """A Secrets Manager client."""
        client: SecretsManagerClient = self._client("secretsmanager")
        return client

    def sqs(self) -> SQSClient:
        """An SQS client."""
        client: SQSClient = self._client("sqs")
        return client

    def cloudformation(self) -> CloudFormationClient:
        """A CloudFormation client."""
        client: CloudFormationClient = self._client("cloudformation")
        return client

    def cloudwatch(self) -> CloudWatchClient:
        """A CloudWatch client."""
        client: CloudWatchClient = self._client("cloudwatch")
        return client

    def iam(self) -> IAMClient:
        """An IAM client."""
        client: IAMClient = self._client("iam")
        return client

    def functions(self) -> LambdaClient:
        """A Lambda client."""
        client: LambdaClient = self._client("lambda")
        return client

    def topics(self) -> SNSClient:
        """An SNS client."""
        client: SNSClient = self._client("sns")
        return client

    def scheduler(self) -> Any:
        """An EventBridge Scheduler client."""
        return self._client("scheduler")

    def _client(self, service: str) -> Any:
        return self._once(service, lambda: self._new_client(service))

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """A client that is made once, because botocore parses the service's model to make it."""
        if name not in self._clients:
            self._clients[name] = make()
        return self._clients[name]

    def _new_client(self, service: str) -> Any:
        return self.session.client(service, **self._where())  # type: ignore[call-overload]

    def _s3(self, owner_of: OwnerOf, which: str) -> S3Client:
        client: S3Client = self._once(which, lambda: s3_client(self.session, owner_of, **self._where()))
        return client

    def _where(self) -> dict[str, Any]:
        return {
            "region_name": self.config.region,
            "endpoint_url": self.config.endpoint_url,
            "config": client_config(),
        }


def open_account(side: str, config: SideConfig, pipeline: str = "") -> Account:
    """Open one side now.

    Args:
        side: "source" or "lake", for errors.
        config: what the configuration says of it.
        pipeline: the pipeline's name, for the names of sessions in CloudTrail.

    Raises:
        AccountError: there are no credentials, the role cannot be assumed, or they are another account's.
    """
    account = Account(side, config, pipeline)
    _ = account.session
    return account


def _opened(side: str, config: SideConfig, pipeline: str) -> boto3.Session:
    try:
        session = boto3.Session(profile_name=config.profile, region_name=config.region)
        if config.role_arn:
            session = assumed_session(
                session,
                config.role_arn,
                config.external_id,
                pipeline=pipeline,
                region=config.region,
                sts_endpoint=config.endpoint_url,
            )
        sts = session.client("sts", region_name=config.region, endpoint_url=config.endpoint_url)
        found = sts.get_caller_identity()["Account"]
    except ResponseParserError:
        raise AccountError(
            f"the {side} side's endpoint {config.endpoint_url} does not answer STS GetCallerIdentity, so the account "
            "of the credentials cannot be checked",
            remedy=f"use an endpoint that has STS, or leave {side}.endpoint_url out",
        ) from None
    except (ClientError, BotoCoreError) as error:
        raise _account_error(side, config, error) from None
    if found != config.account:
        raise AccountError(
            f"the {side} side's credentials are of account {found}, but the configuration says {config.account}",
            remedy=f"check {side}.profile and {side}.role_arn",
        )
    return session


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
    elif isinstance(error, HTTPClientError):
        message = f"the {side} side's account cannot be checked ({shown.message})"
    else:
        message = f"the {side} side has no usable credentials ({shown.message})"
    return AccountError(message, remedy=shown.remedy)
