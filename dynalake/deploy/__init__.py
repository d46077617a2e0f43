"""Making and taking away what a pipeline needs in its two accounts, by CloudFormation.

names        what stacks, roles, function and buckets are called
plans        which stacks a side has, and their parameters, from the configuration
templates    our templates, and what they come to with a stack's parameters
preflight    what is in the way, found before anything is made
code         the function's zip, built and brought to the source account
stacks       one stack: change set, execution, first cause of a failure, undoing
remove       taking a side away, with or without its data
"""

from dynalake.deploy.plans import Deployment, Plan, Side
from dynalake.deploy.preflight import Finding, preflight
from dynalake.deploy.stacks import ChangeSet, Event, Stacks

__all__ = ["ChangeSet", "Deployment", "Event", "Finding", "Plan", "Side", "Stacks", "preflight"]
