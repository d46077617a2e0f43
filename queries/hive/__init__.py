"""HiveServer2 and what speaks its protocol, Spark's Thrift server among them, through PyHive.

    settings    where a server is and how to log in
    session     a session: statements with progress, cancelled on the server when interrupted
    messages    what a server says of a mistake, as one line
    columns     Thrift's columns as Arrow arrays
    nested      Arrow types from a server's type names, and nested values from JSON
    standing    the table and views that stand on a server
    apply       running generated DDL

PyHive and Thrift are loaded when a session is opened.
"""

from queries.hive.apply import apply
from queries.hive.session import HiveSession, Progress, open_session
from queries.hive.settings import Auth, HiveSettings
from queries.hive.standing import standing

__all__ = ["Auth", "HiveSession", "HiveSettings", "Progress", "apply", "open_session", "standing"]
