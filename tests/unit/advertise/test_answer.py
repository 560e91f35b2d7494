import classad2
import pytest

from broker.wire.states import Accelerator, Exchange
from launcher.advertise.answer import MOST_IMAGES, Answer, quoted
from launcher.images.public_names import image_attribute

DIGEST = f"sha256:{'a' * 64}"
ABLE = Answer(
    can_run=True,
    reason="KVM got through 20,000,000 instructions within 1.5 s",
    version="0.2.0",
    accelerator=Accelerator.KVM,
    vcpus=8,
    memory_mib=15_000,
    exchanges=(Exchange.NETWORK, Exchange.SHARED, Exchange.DISK),
    images=(DIGEST,),
)
ABLE_LINES = """\
CAN_RUN_VIRTUAL_MACHINE = true
VMBROKER_REASON = "KVM got through 20,000,000 instructions within 1.5 s"
VMBROKER_ACCELERATOR = "kvm"
VMBROKER_VCPUS = 8
VMBROKER_MEMORY_MIB = 15000
VMBROKER_EXCHANGES = "network,shared,disk"
VMBROKER_VERSION = "0.2.0"
VMBROKER_IMAGE_3033fa56f2d99114883b = true
"""
UNABLE_LINES = r"""
CAN_RUN_VIRTUAL_MACHINE = false
VMBROKER_REASON = "no vm: \"C:\\x\" said no twice"
VMBROKER_VERSION = "0.2.0"
""".lstrip()


def text(answer: Answer) -> str:
    return "".join(f"{line}\n" for line in answer.lines())


def test_a_node_that_can_tells_how() -> None:
    assert text(ABLE) == ABLE_LINES


def test_a_node_that_cannot_tells_why_on_one_line() -> None:
    assert text(Answer(reason='no vm: "C:\\x"\nsaid no\t\ttwice', version="0.2.0")) == UNABLE_LINES


def test_classads_read_what_is_told() -> None:
    reason = 'a "word", a \\ and \\" at the end \\'
    ad = classad2.parseOne(text(Answer(reason=reason, version="0.2.0", images=(DIGEST,))))
    assert ad["CAN_RUN_VIRTUAL_MACHINE"] is False
    assert ad[image_attribute(DIGEST)] is True
    assert ad["VMBROKER_VERSION"] == "0.2.0"
    assert classad2.ExprTree(quoted(reason)).eval() == reason


@pytest.mark.parametrize("reason", ["x" * 5_000, "\x1b[31mred\x07", "façade…", "\udcff"])
def test_whatever_is_the_reason_it_is_a_short_line_of_ascii(reason: str) -> None:
    (line,) = (line for line in Answer(reason=reason, version="1").lines() if line.startswith("VMBROKER_REASON"))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 600


def test_no_more_images_are_told_than_an_ad_should_hold() -> None:
    images = tuple(f"sha256:{number:064x}" for number in range(MOST_IMAGES + 5))
    told = [line for line in Answer(reason="", version="1", images=images).lines() if "IMAGE" in line]
    assert len(told) == MOST_IMAGES
    assert told[0] == f"{image_attribute(images[0])} = true"
