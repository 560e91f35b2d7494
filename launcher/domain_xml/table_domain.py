"""The table, first half: everything of a domain but its devices.

Source: https://libvirt.org/formatdomain.html
"""

from launcher.domain_xml.rules import Rule, drop, keep, put, refuse

YES_NO = "yes|no"
ON_OFF = "on|off"
NUMBER = r"[0-9]{1,9}"

_PLACED_BY_SLOT = "the slot decides where and with what share a vm runs"
_OTHER_HYPERVISOR = "belongs to another hypervisor or architecture"
_NO_SECURE_BOOT = "the node's own UEFI firmware is used, without secure boot"

_INSTALL_BOOT_LOADER = "install a boot loader in the disk image and remove the element"

IDENTITY: tuple[Rule, ...] = (
    *keep("."),
    *put("@type", "the node's accelerator decides: kvm, or qemu where KVM does not work"),
    *drop("@id", "numbers a running domain on its own host"),
    *put("name", "named after the dispatch"),
    *put("uuid", "the dispatch id"),
    *put("metadata", "names the dispatch and the item, so that an orphan is recognised"),
    *drop("title description hwuuid", "describes the machine on its owner's host"),
    *put("genid", "the dispatch id, so that the guest knows itself to be a clone"),
)

RESOURCES: tuple[Rule, ...] = (
    *put("memory", "the machine's memory, all of it from the start"),
    *drop("currentMemory", "a vm has all of its memory from the start"),
    *drop("maxMemory memoryBacking", "memory is neither added nor backed in a special way on a node"),
    *put("vcpu", "the machine's vcpus, all of them from the start"),
    *drop("vcpus", "a vm has all of its vcpus from the start"),
    *put("cpu", "the CPU model follows the accelerator; the topology is one socket of the machine's vcpus"),
    *drop(
        "cputune numatune blkiotune memtune resource iothreads iothreadids defaultiothread throttlegroups",
        _PLACED_BY_SLOT,
    ),
    *drop("perf", "counts events of the host"),
)

BOOT: tuple[Rule, ...] = (
    *keep("os"),
    *put("os/@firmware", _NO_SECURE_BOOT),
    *put("os/type", "the machine type, or the newest of its family that the node has"),
    *keep("os/boot", dev="hd|cdrom|fd", required=("dev",), many=True),
    *put("os/firmware", _NO_SECURE_BOOT),
    *drop("os/loader", "the node's own firmware is used, a path of another host means nothing here"),
    *drop("os/nvram os/varstore", "a vm has the UEFI variables given with the machine, or fresh ones"),
    *drop("os/bootmenu os/bios", "nobody is there to choose"),
    *drop("os/smbios", "shows strings of another host"),
    *refuse(
        "os/kernel os/initrd os/dtb os/shim",
        "direct kernel boot reads a file of the host",
        _INSTALL_BOOT_LOADER,
    ),
    *drop("os/cmdline os/root", "there is no direct kernel boot that it could belong to"),
    *refuse("os/acpi", "an ACPI table is read from a file of the host", "remove the element"),
    *drop("os/init os/initarg os/initenv os/initdir os/inituser os/initgroup idmap", _OTHER_HYPERVISOR),
    *drop("bootloader bootloader_args", _OTHER_HYPERVISOR),
    *refuse(
        "sysinfo",
        "firmware configuration entries are read from files of the host, and may hold secrets",
        "remove the element; give the program what it needs as input or parameters",
        when={"type": "fwcfg"},
    ),
    *drop("sysinfo", "shows strings of another host"),
)

FEATURES: tuple[Rule, ...] = (
    *keep("features"),
    *keep("features/acpi"),
    *keep("features/apic", eoi=ON_OFF),
    *keep("features/pae"),
    *keep("features/vmport", state=ON_OFF),
    *keep("features/hyperv", mode="custom"),
    *(
        rule
        for name in ("relaxed", "vapic", "vpindex", "runtime", "synic", "reset", "frequencies", "tlbflush", "ipi")
        for rule in keep(f"features/hyperv/{name}", state=ON_OFF, required=("state",))
    ),
    *keep("features/hyperv/spinlocks", state=ON_OFF, retries=NUMBER, required=("state",)),
    *keep("features/hyperv/stimer", state=ON_OFF, required=("state",)),
    *drop(
        "features/hyperv/avic features/hyperv/evmcs features/hyperv/reenlightenment features/hyperv/emsr_bitmap "
        "features/hyperv/xmm_input features/hyperv/vendor_id features/hyperv/stimer/direct",
        "depends on the host's KVM",
    ),
    *put("features/tcg", "a small translation cache, so that more vms fit a node"),
    *drop("features/kvm features/pmu features/msrs features/ioapic", "depends on the host's KVM"),
    *drop("features/smm features/vmcoreinfo features/ps2 features/async-teardown", "a vm on a node has no use for it"),
    *drop(
        "features/hap features/viridian features/privnet features/pvspinlock features/xen features/capabilities "
        "features/gic features/hpt features/htm features/nested-hv features/ccf-assist features/cfpc features/sbbc "
        "features/ibs features/ras features/aia",
        _OTHER_HYPERVISOR,
    ),
)

_TICKS = "delay|merge|discard|catchup"

CLOCK: tuple[Rule, ...] = (
    *keep("clock", offset="utc|localtime"),
    *put("clock/@offset", "utc: other offsets belong to one host and one start"),
    *drop("clock/@adjustment clock/@basis clock/@start clock/@timezone", "belongs to one host and one start"),
    *keep("clock/timer", when={"name": "rtc|pit|hpet"}, name=".+", tickpolicy=_TICKS, present=YES_NO, many=True),
    *keep("clock/timer", when={"name": "kvmclock|hypervclock"}, name=".+", present=YES_NO, many=True),
    *drop(
        "clock/timer clock/timer/@track clock/timer/@frequency clock/timer/@mode clock/timer/catchup",
        "depends on the host's clock",
    ),
)

LIFECYCLE: tuple[Rule, ...] = (
    *put("on_poweroff on_reboot on_crash", "destroy: a vm is one boot for one item"),
    *drop("on_lockfailure", "a vm takes no locks of the host"),
    *put("pm", "off: a guest that suspends would never finish its item"),
    *drop("seclabel", "the node's own labelling confines the vm"),
    *drop("keywrap launchSecurity", "depends on the host's hardware"),
)

DOMAIN_RULES: tuple[Rule, ...] = (*IDENTITY, *RESOURCES, *BOOT, *FEATURES, *CLOCK, *LIFECYCLE)
