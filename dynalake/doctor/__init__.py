"""Whether a pipeline has all that it needs, each prerequisite by itself, seen from both accounts.

checkup      one prerequisite, and running them all
tables       credentials, source table, lake tables
functions    role, function, event source mapping, quarantine, alarms
rights       the function's code and the roles' policies, compared with what this version deploys
schedules    heartbeat and checks
canary       one item's way through the whole pipeline, only where that is asked for
"""

from dynalake.doctor.canary import Canary, send_canary
from dynalake.doctor.checkup import Check, Patient, check_up

__all__ = ["Canary", "Check", "Patient", "check_up", "send_canary"]
