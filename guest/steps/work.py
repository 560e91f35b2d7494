from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from broker.wire.exchange import ExchangeItem
from broker.wire.leases import MAX_OUTPUTS, ClaimAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done for the item, whichever exchange it came by."""

    item: str
    run: str
    as_user: str
    output_files: Sequence[str]
    run_ms: int
    output_mib: int
    max_outputs: int = MAX_OUTPUTS
    script: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    input_name: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Further inputs: the file's name, by the input's."""

    @classmethod
    def of_claim(cls, claimed: ClaimAnswer) -> Self:
        """Take what the broker answered to the claim."""
        return cls(
            item=claimed.item,
            run=claimed.run,
            as_user=claimed.as_user,
            output_files=claimed.output_files,
            run_ms=claimed.limits.run_ms,
            output_mib=claimed.limits.output_mib,
            max_outputs=claimed.limits.max_outputs,
            script=claimed.script,
            params=claimed.params,
            input_name=None if claimed.input is None else claimed.input.name,
            inputs={name: given.name for name, given in claimed.inputs.items()},
        )

    @classmethod
    def of_share(cls, given: ExchangeItem, script: str) -> Self:
        """Take what the launcher wrote into the shared folder."""
        return cls(
            item=given.item,
            run=given.run,
            as_user=given.as_user,
            output_files=given.output_files,
            run_ms=given.run_ms,
            output_mib=given.output_mib,
            script=script,
            params=given.params,
            input_name=given.input,
            inputs=given.inputs,
        )
