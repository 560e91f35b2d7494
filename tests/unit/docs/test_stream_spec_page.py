import re
from pathlib import Path

from broker.cli.spec_file import parse_document, read_spec
from broker.wire.names import StreamRef, UserName
from broker.wire.states import Accelerator

_PAGE = Path(__file__).parents[3] / "docs/reference/stream-spec.md"


def test_the_example_is_a_spec() -> None:
    found = re.search(r"```toml\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert found is not None
    document = parse_document(found[1].encode(), _PAGE.name)
    assert document["script"] == "render.sh"
    spec = read_spec({**document, "script": "#!/bin/sh\n"}, StreamRef(UserName("alice"), "render"))
    assert (spec.needs.vcpus, spec.needs.accelerator) == ("slot", Accelerator.KVM)
    assert spec.retry.hold_exit_codes == (2, 64)
