import struct

from deploy.image.builder.disk import FIRST_SECTOR, master_boot_record


def test_the_first_sector_holds_boot_code_and_one_active_partition_to_the_disks_end() -> None:
    sector = master_boot_record(b"\xeb" * 512, disk_sectors=100_000, disk_id=7)
    status, kind, first, count = struct.unpack("<B3xB3xII", sector[446:462])
    assert len(sector) == 512
    assert sector[:440] == b"\xeb" * 440
    assert sector[510:] == b"\x55\xaa"
    assert (status, kind, first, first + count) == (0x80, 0x83, FIRST_SECTOR, 100_000)
    assert sector[462:510] == bytes(48)
