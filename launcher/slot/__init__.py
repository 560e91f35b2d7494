"""What a launcher may use of its node, and until when: as people, batch systems and the kernel say.

Each source is a module that yields what it says, word by word, from the environment and the files it is given. `sizes`
decides between them. A word that cannot be read is a warning, and passed over: a slot is never lost to it.
"""

from launcher.slot.sizes import LAUNCHER_MIB, QEMU_OVERHEAD_MIB, Given, SlotFacts, read_late_end, read_slot
from launcher.slot.words import Fact

__all__ = ["LAUNCHER_MIB", "QEMU_OVERHEAD_MIB", "Fact", "Given", "SlotFacts", "read_late_end", "read_slot"]
