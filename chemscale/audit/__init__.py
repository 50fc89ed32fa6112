"""What a referee would ask of any store or table: findings, and the claims that its runs bear.

audit(store)                                                  # an Audit: findings and claims
audit(table, loss="loss", params="N", data="D")
"""

from chemscale.audit.values import Audit, Claim, Deciding, Finding
from chemscale.rooms import answer_calls

__all__ = ["Audit", "Claim", "Deciding", "Finding"]

answer_calls(__name__, "chemscale.audit.audit:audit")
