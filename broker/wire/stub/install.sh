#!/bin/sh
# Installs vmbroker's stub into this machine, once, as root; --remove takes it out again. Made to be read first:
#
#   curl -fsS https://BROKER/guest/install | sudo sh
#   curl -fsS https://BROKER/guest/install | sudo sh -s -- --remove
#
# On the grid the launcher attaches a small read-only disk labelled VMBROKER, which holds the client. The stub waits for
# that disk, mounts it and runs its client. Elsewhere there is no such disk, and nothing happens.
set -eu

name=vmbroker-guest
unit=/etc/systemd/system/$name.service
starter=/usr/local/sbin/$name
service=/etc/init.d/$name
inittab_line="::once:$starter"

fail() {
	echo "vmbroker: $*" >&2
	exit 1
}

# An image is also prepared from outside, without being booted: then what is installed tells, not what runs.
find_init() {
	if [ -d /run/systemd/system ]; then
		echo systemd
	elif [ -x /sbin/openrc-run ]; then
		echo openrc
	elif case $(readlink -f /sbin/init 2>/dev/null) in */systemd) true ;; *) false ;; esac then
		echo systemd
	elif [ -d /etc/init.d ] && { [ -d /etc/rc2.d ] || [ -d /etc/rc.d/rc3.d ]; }; then
		echo sysv
	elif [ -f /etc/inittab ] && case $(readlink -f /sbin/init 2>/dev/null) in */busybox) true ;; *) false ;; esac then
		echo busybox
	fi
}

write_unit() {
	cat >"$1" <<'END_OF_UNIT'
@UNIT@
END_OF_UNIT
}

# What the unit does, for systems without systemd; in the background, since an item may take days.
write_starter() {
	mkdir -p /usr/local/sbin &&
		cat >"$starter" <<'END_OF_STARTER' && chmod 755 "$starter"
#!/bin/sh
# Installed by vmbroker: runs the client from the disk labelled VMBROKER; without that disk, nothing.
client=/run/vmbroker/client
(
	seconds=0
	until disk=$(blkid -L VMBROKER 2>/dev/null || findfs LABEL=VMBROKER 2>/dev/null) && [ -n "$disk" ]; do
		[ $seconds -lt 30 ] || exit 0
		seconds=$((seconds + 1))
		sleep 1
	done
	mkdir -p $client && mount -o ro "$disk" $client && exec $client/run
) </dev/null >/dev/console 2>&1 &
END_OF_STARTER
}

write_openrc_service() {
	cat >"$service" <<'END_OF_SERVICE' && chmod 755 "$service"
#!/sbin/openrc-run
description="vmbroker client, from the disk labelled VMBROKER"
depend() {
	after *
}
start() {
	/usr/local/sbin/vmbroker-guest
}
END_OF_SERVICE
}

write_sysv_service() {
	cat >"$service" <<'END_OF_SERVICE' && chmod 755 "$service"
#!/bin/sh
# chkconfig: 2345 99 01
# description: vmbroker client, from the disk labelled VMBROKER
### BEGIN INIT INFO
# Provides:          vmbroker-guest
# Required-Start:    $all
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: vmbroker client, from the disk labelled VMBROKER
### END INIT INFO
[ "$1" != start ] || /usr/local/sbin/vmbroker-guest
END_OF_SERVICE
}

# In what is asked whether it failed, set -e is off: each step says by && that the next one needs it.
install_stub() {
	case $1 in
	systemd) write_unit $unit && systemctl enable $name.service ;;
	openrc) write_starter && write_openrc_service && rc-update add $name default ;;
	sysv)
		write_starter && write_sysv_service &&
			if command -v update-rc.d >/dev/null; then update-rc.d $name defaults; else chkconfig --add $name; fi
		;;
	busybox)
		write_starter && { grep -qxF "$inittab_line" /etc/inittab || echo "$inittab_line" >>/etc/inittab; }
		;;
	esac >/dev/null 2>&1 || fail "could not be installed for $1: $name is not enabled"
	echo "vmbroker: the stub is installed for $1. Shut this machine down, and hand it over: broker machine add"
}

remove_stub() {
	case $1 in
	systemd)
		systemctl disable $name.service
		rm -f $unit
		;;
	openrc) rc-update del $name default ;;
	sysv) if command -v update-rc.d >/dev/null; then update-rc.d -f $name remove; else chkconfig --del $name; fi ;;
	busybox)
		grep -vxF "$inittab_line" /etc/inittab >/etc/inittab.new || true
		cat /etc/inittab.new >/etc/inittab
		rm -f /etc/inittab.new
		;;
	esac >/dev/null 2>&1 || true # what was not installed cannot be disabled
	rm -f "$starter" "$service"
	echo "vmbroker: the stub is removed"
}

# Called in the last line, so that a download cut short does nothing.
main() {
	[ "$(id -u)" -eq 0 ] || fail "must be root to install: curl -fsS …/guest/install | sudo sh"
	init=$(find_init)
	[ -n "$init" ] || fail "this machine's init system is none of systemd, OpenRC, SysV and busybox; start-up must mount" \
		"the disk labelled VMBROKER and execute its file run, see how-to/prepare-an-image"
	case ${1-} in
	'') install_stub "$init" ;;
	--remove) remove_stub "$init" ;;
	*) fail "unknown argument '$1'; the only one is --remove" ;;
	esac
}

main "$@"
