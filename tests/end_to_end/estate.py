"""Two accounts with pipelines between them, and a stranger's account: all resources, with the fewest permissions.

Each pipeline has tables, roles and a function of its own, so that a test can break one and leave the others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ingest.records import lambda_event
from ingest.wire import from_boto3, to_boto3
from lake.contract.health import GAP_PREFIX
from lake.contract.naming import catalogue_table_name, checkpoint_table_name, lake_table_name
from lake.contract.versions import label_of_stream, streamed
from lake.tables import TableKey, ensure_lake_table, ensure_shared_tables
from tests.end_to_end.ministack import REGION, Ministack
from tests.waiting import until

SOURCE: Final = "111111111111"
LAKE: Final = "999999999999"
STRANGER: Final = "222222222222"

CATALOGUE: Final = catalogue_table_name()
CHECKPOINTS: Final = checkpoint_table_name()
BUCKET: Final = "quarantine-of-the-source"

KEY: Final = TableKey((("pk", "S"), ("sk", "N")))


Item = Mapping[str, Mapping[str, Any]]

LAMBDA_SERVICE: Final = {"Service": "lambda.amazonaws.com"}


@dataclass(frozen=True, slots=True)
class Permission:
    """One line of a role's policy."""

    action: str
    resource: str


def lake_permissions(lake_table: str) -> list[Permission]:
    """What the function does in the lake account, and no more."""
    return [
        Permission("dynamodb:PutItem", _table(lake_table)),
        Permission("dynamodb:Query", _table(CATALOGUE)),
        Permission("dynamodb:PutItem", _table(CATALOGUE)),
        Permission("dynamodb:PutItem", _table(CHECKPOINTS)),
        Permission("dynamodb:UpdateItem", _table(CHECKPOINTS)),
    ]


def source_permissions(name: str, stream_arn: str, lake_role: str) -> list[Permission]:
    """What the function, and the event source mapping on its behalf, do in the source account."""
    reading = ("DescribeStream", "GetRecords", "GetShardIterator")
    writing = ("CreateLogGroup", "CreateLogStream", "PutLogEvents")
    return [
        Permission("sts:AssumeRole", lake_role),
        Permission("s3:PutObject", f"arn:aws:s3:::{BUCKET}/*"),
        Permission("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
        *(Permission(f"dynamodb:{action}", stream_arn) for action in reading),
        Permission("dynamodb:ListStreams", "*"),
        *(Permission(f"logs:{action}", f"arn:aws:logs:{REGION}:{SOURCE}:*{name}*") for action in writing),
    ]


class Estate:
    """The accounts, and what all pipelines share."""

    def __init__(self, aws: Ministack, code: bytes) -> None:
        """Make the shared tables and the quarantine bucket; `code` is the function's zip."""
        self.aws = aws
        self.code = code
        self._administrators: dict[str, tuple[str, str]] = {}
        ensure_shared_tables(self.lake_dynamodb, CATALOGUE, CHECKPOINTS)
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    @cached_property
    def source_dynamodb(self) -> Any:
        return self.aws.client("dynamodb", SOURCE)

    @cached_property
    def source_streams(self) -> Any:
        return self.aws.client("dynamodbstreams", SOURCE)

    @cached_property
    def lake_dynamodb(self) -> Any:
        return self.aws.client("dynamodb", LAKE)

    @cached_property
    def lambda_(self) -> Any:
        return self.aws.client("lambda", SOURCE)

    @cached_property
    def s3(self) -> Any:
        return self.aws.client("s3", SOURCE)

    def role(self, account: str, name: str, trusted: Any, permissions: Collection[Permission]) -> str:
        """Make a role and answer its ARN."""
        iam = self.aws.client("iam", account)
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trusted))["Role"]["Arn"]
        self.permit(account, name, permissions)
        return str(arn)

    def permit(self, account: str, role: str, permissions: Collection[Permission]) -> None:
        """Let a role do this and nothing else."""
        statements = [
            {"Effect": "Allow", "Action": permission.action, "Resource": permission.resource}
            for permission in permissions
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.aws.client("iam", account).put_role_policy(
            RoleName=role, PolicyName="all", PolicyDocument=policy
        )

    def administrator(self, account: str) -> tuple[str, str]:
        """The access key of a user who may do everything that is his account's to allow."""
        if account not in self._administrators:
            self._administrators[account] = self._make_administrator(account)
        return self._administrators[account]

    def _make_administrator(self, account: str) -> tuple[str, str]:
        iam = self.aws.client("iam", account)
        iam.create_user(UserName="administrator")
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        iam.put_user_policy(UserName="administrator", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="administrator")["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]


class Pipeline:
    """One pipeline: a source table, its lake table, the two roles and the function."""

    def __init__(
        self,
        estate: Estate,
        name: str,
        *,
        without: Callable[[Permission], bool] = lambda _: False,
        trusted: str | None = None,
        demanded: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Make it.

        Args:
            estate: where.
            name: of the pipeline, and of all that is its own.
            without: says of each permission whether it is left out.
            trusted: the ARN which the lake's role trusts; that of the function's role if None.
            demanded: the ExternalId which the lake's role demands; that which the function says if None.
            environment: more variables of the function.
        """
        self._estate = estate
        self.name = name
        self.lake_table = lake_table_name("shop", name)
        self.external_id = f"{name}-9f3c"
        self.lake_role = f"{name}-lake"
        self.lake_role_arn = f"arn:aws:iam::{LAKE}:role/{self.lake_role}"
        self.stream_arn = self._make_tables()
        function_role = self._make_roles(without, trusted, demanded or self.external_id)
        self._make_function(function_role, environment or {})

    def _make_tables(self) -> str:
        ensure_lake_table(self._estate.lake_dynamodb, self.lake_table, KEY)
        table = self._estate.source_dynamodb.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
            **KEY.request(),
        )
        return str(table["TableDescription"]["LatestStreamArn"])

    def _make_roles(self, without: Callable[[Permission], bool], trusted: str | None, demanded: str) -> str:
        wanted = source_permissions(self.name, self.stream_arn, self.lake_role_arn)
        function_role = self._estate.role(
            SOURCE,
            f"{self.name}-function",
            _trust(LAMBDA_SERVICE),
            [permission for permission in wanted if not without(permission)],
        )
        self._estate.role(
            LAKE,
            self.lake_role,
            _trust({"AWS": trusted or function_role}, {"StringEquals": {"sts:ExternalId": demanded}}),
            [permission for permission in lake_permissions(self.lake_table) if not without(permission)],
        )
        return function_role

    def _make_function(self, role: str, environment: Mapping[str, str]) -> None:
        variables = {
            "DYNALAKE_PIPELINE": self.name,
            "DYNALAKE_STREAM_ARN": self.stream_arn,
            "DYNALAKE_LAKE_TABLE": self.lake_table,
            "DYNALAKE_CATALOGUE_TABLE": CATALOGUE,
            "DYNALAKE_CHECKPOINT_TABLE": CHECKPOINTS,
            "DYNALAKE_LAKE_REGION": REGION,
            "DYNALAKE_LAKE_ROLE_ARN": self.lake_role_arn,
            "DYNALAKE_EXTERNAL_ID": self.external_id,
            "DYNALAKE_QUARANTINE": f"s3://{BUCKET}/records",
            "DYNALAKE_KEY_ATTRIBUTES": json.dumps([name for name, _ in KEY.attributes]),
            **environment,
        }
        self._estate.lambda_.create_function(
            FunctionName=self.name,
            Runtime="python3.13",
            Handler="ingest.lambda_function.handler",
            Role=role,
            Code={"ZipFile": self._estate.code},
            Timeout=60,
            MemorySize=256,
            Environment={"Variables": variables},
        )
        until(self._is_active, self._estate.aws.tail)

    def _is_active(self) -> bool:
        configuration = self._estate.lambda_.get_function_configuration(FunctionName=self.name)
        return bool(configuration["State"] == "Active")

    def connect(self) -> None:
        """Let Lambda deliver the stream to the function, from its beginning."""
        self._estate.lambda_.create_event_source_mapping(
            FunctionName=self.name,
            EventSourceArn=self.stream_arn,
            StartingPosition="TRIM_HORIZON",
            BatchSize=100,
            MaximumBatchingWindowInSeconds=0,
            ParallelizationFactor=1,
            BisectBatchOnFunctionError=True,
            MaximumRetryAttempts=-1,
            MaximumRecordAgeInSeconds=72_000,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{BUCKET}"}},
        )

    def put(self, item: Item) -> None:
        """Write an item into the source table, as the wire has it."""
        self._estate.source_dynamodb.put_item(TableName=self.name, Item=to_boto3(item))

    def delete(self, key: Item) -> None:
        self._estate.source_dynamodb.delete_item(TableName=self.name, Key=to_boto3(key))

    def source(self) -> dict[str, Item]:
        """The source's items by key."""
        return _by_key(_scan(self._estate.source_dynamodb, self.name))

    def lake(self) -> dict[str, Item]:
        """The lake's rows by key, tombstones too."""
        return _by_key(_scan(self._estate.lake_dynamodb, self.lake_table))

    def lake_row(self, key: Item) -> Item | None:
        answer = self._estate.lake_dynamodb.get_item(
            TableName=self.lake_table, Key=to_boto3(key), ConsistentRead=True
        )
        return from_boto3(answer["Item"]) if "Item" in answer else None

    def gaps(self) -> list[dict[str, Any]]:
        """The gaps that are noted in the checkpoint table of this pipeline."""
        return [
            item
            for item in _scan(self._estate.lake_dynamodb, CHECKPOINTS)
            if item["pipeline"]["S"] == self.lake_table and item["entry"]["S"].startswith(GAP_PREFIX)
        ]

    def observed(self) -> set[tuple[str, str]]:
        """The catalogue's attributes and kinds of this pipeline."""
        return {
            (item["attribute"]["S"], item["kind"]["S"])
            for item in _scan(self._estate.lake_dynamodb, CATALOGUE)
            if item["table"]["S"] == self.lake_table
        }

    def quarantined(self) -> dict[str, dict[str, Any]]:
        """The documents in quarantine, by object key."""
        s3 = self._estate.s3
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"records/{self.name}/").get("Contents", [])
        return {
            entry["Key"]: json.loads(s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read())
            for entry in found
        }

    def iterator(self) -> str:
        """An iterator at the beginning of the source's stream, which has one shard here."""
        streams = self._estate.source_streams
        (shard,) = streams.describe_stream(StreamArn=self.stream_arn)["StreamDescription"]["Shards"]
        return str(
            streams.get_shard_iterator(
                StreamArn=self.stream_arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
        )

    def records(self) -> list[Mapping[str, Any]]:
        """All records of the source's stream, as Lambda delivers them."""
        found: list[Mapping[str, Any]] = []
        iterator = self.iterator()
        while (page := self._estate.source_streams.get_records(ShardIterator=iterator))["Records"]:
            found += page["Records"]
            iterator = page["NextShardIterator"]
        event: list[Mapping[str, Any]] = lambda_event(found, self.stream_arn)["Records"]
        return event

    def versions(self) -> dict[str, str]:
        """The newest version that the source's stream holds of each key: what the lake must come to."""
        return {
            _name_of(record["dynamodb"]["Keys"]): streamed(
                label_of_stream(self.stream_arn), record["dynamodb"]["SequenceNumber"]
            )
            for record in self.records()
        }

    def drained(self) -> bool:
        """Whether the newest change of every key in the stream is in the lake, tombstones too."""
        lake = self.lake()
        return all(
            key in lake and lake[key]["_lake_version"]["S"] == version
            for key, version in self.versions().items()
        )

    def invoke(self, records: Sequence[Mapping[str, Any]]) -> Answer:
        """Call the function with these records, as a redelivery would."""
        answer = self._estate.lambda_.invoke(
            FunctionName=self.name, Payload=json.dumps({"Records": records}, default=str).encode()
        )
        payload = json.loads(answer["Payload"].read())
        log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
        return Answer(payload, str(answer.get("FunctionError", "")), log)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function answered."""

    payload: Any
    error: str
    log: str

    @property
    def applied_all(self) -> bool:
        return not self.error and self.payload == {"batchItemFailures": []}


def key_of(item: Item) -> dict[str, Mapping[str, Any]]:
    return {name: item[name] for name, _ in KEY.attributes}


def _trust(principal: Any, condition: Any = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    if condition:
        statement["Condition"] = condition
    return {"Version": "2012-10-17", "Statement": [statement]}


def _table(name: str) -> str:
    return f"arn:aws:dynamodb:{REGION}:{LAKE}:table/{name}"


def _scan(dynamodb: Any, table: str) -> list[dict[str, Any]]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [from_boto3(item) for page in pages for item in page["Items"]]


def _by_key(items: Sequence[Item]) -> dict[str, Item]:
    return {_name_of(item): item for item in items}


def _name_of(item: Mapping[str, Any]) -> str:
    return f"{item['pk']['S']}/{item['sk']['N']}"
