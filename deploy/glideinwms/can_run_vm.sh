#!/bin/bash
# Whether virtual machines can run on the node of a glidein. Who installs it: the administrator of a GlideinWMS frontend (or
# factory), as a file with executable="True" in the XML of a group (or an entry): frontend-group.xml. Who runs it: each
# glidein before it starts its condor_startd, and again each `period` while it lives: $1 is the file glidein_config, $2 an
# entry's name, or main.
#
# It publishes in the slots' ads what `launcher advertise` tells: CAN_RUN_VIRTUAL_MACHINE and VMBROKER_…. Attributes that it
# reads from glidein_config:
#   VMBROKER_LAUNCHER  the launcher's path on the nodes; without it, a bundle that came with the glidein (VMBROKER_DIR), else
#                      what is found by PATH
#   VMBROKER_SITE      the site's bounds, a site.toml on the nodes
#   VMBROKER_REQUIRED  True: a glidein on a node that cannot run vms ends; otherwise it serves other jobs
# What it finds goes into glidein_config and the condor vars, which the startd reads when it starts, and to stdout, from where
# the startd takes what a later run found.
# Source: GlideinWMS's documentation, factory/custom_scripts.html.
#
# bash, because the file that ADD_CONFIG_LINE_SOURCE names is written in it.

# Global variables that the functions of that file use.
glidein_config=$1
# A launcher answers within 60 s by itself.
limit_s=${VMBROKER_ADVERTISE_LIMIT_S:-90}
script=can_run_vm.sh
# A later run is in a folder of its own, which goes with it.
work_dir=$(cd "$(dirname "$glidein_config")" && pwd) || exit 1

config_value() {
	# The last line of a name counts.
	grep "^$1 " "$glidein_config" | tail -n 1 | cut -d ' ' -f 2-
}

path_value() {
	path=$(config_value "$1")
	case $path in
	/* | '') ;;
	*) path=$work_dir/$path ;;
	esac
	printf '%s\n' "$path"
}

is_true() {
	case $1 in
	[Tt][Rr][Uu][Ee] | 1) return 0 ;;
	*) return 1 ;;
	esac
}

# Where a bundle was unpacked; a frontend's name of the folder has a prefix of its own.
find_launcher() {
	named=$(config_value VMBROKER_LAUNCHER)
	if [ -n "$named" ]; then
		printf '%s\n' "$named"
		return
	fi
	for prefix in GLIDECLIENT_GROUP_ GLIDECLIENT_Group_ GLIDECLIENT_ ''; do
		folder=$(config_value "${prefix}VMBROKER_DIR")
		for found in "$folder"/vmbroker-*/bin/launcher; do
			if [ -n "$folder" ] && [ -x "$found" ]; then
				printf '%s\n' "$found"
				return
			fi
		done
	done
	command -v launcher
}

# Quotes and such would end a value in the configuration that condor_startup.sh writes, or be run by it.
plain() {
	printf %s "$1" | tr -d '\\"'"'"'`$<>&' | tr -c '[:print:]' ' ' | cut -c 1-500
}

# Columns of condor_vars: name, type (S a string, I a number, C an expression), default, the name in the ad, whether a
# value is required, whether the slot's ad has it, whether jobs get it as a variable.
publish() {
	add_config_line "$1" "$3"
	add_condor_vars_line "$1" "$2" "-" "+" "N" "Y" "-"
	case $2 in
	S) printf '%s = "%s"\n' "$1" "$3" ;;
	*) printf '%s = %s\n' "$1" "$3" ;;
	esac
}

# Takes `Name = value` of one line over.
publish_line() {
	name=${1%% = *}
	value=${1#* = }
	case $name in
	CAN_RUN_VIRTUAL_MACHINE | VMBROKER_*) ;;
	*) return ;;
	esac
	case $name in
	*[!A-Za-z0-9_]*) return ;;
	esac
	case $value in
	true) publish "$name" C True ;;
	false) publish "$name" C False ;;
	\"*\") publish "$name" S "$(plain "$value")" ;;
	'' | *[!0-9]*) return ;;
	*) publish "$name" I "$value" ;;
	esac
}

cannot() {
	reason=$(plain "$1")
	publish CAN_RUN_VIRTUAL_MACHINE C False
	publish VMBROKER_REASON S "$reason"
	if is_true "$(config_value VMBROKER_REQUIRED)"; then
		echo "no virtual machine can run here: $reason" >&2
		"$error_gen" -error "$script" WN_Resource "no virtual machine can run here: $reason" CAN_RUN_VIRTUAL_MACHINE False
		exit 1
	fi
	"$error_gen" -ok "$script" CAN_RUN_VIRTUAL_MACHINE False VMBROKER_REASON "$reason"
	exit 0
}

error_gen=$(path_value ERROR_GEN_PATH)
condor_vars_file=$(path_value CONDOR_VARS_FILE)
functions=$(path_value ADD_CONFIG_LINE_SOURCE)
if [ ! -x "$error_gen" ] || [ ! -w "$condor_vars_file" ] || [ ! -r "$functions" ]; then
	echo "$script: $glidein_config does not name ERROR_GEN_PATH, CONDOR_VARS_FILE and ADD_CONFIG_LINE_SOURCE" >&2
	exit 1
fi
. "$functions"

launcher=$(find_launcher)
[ -n "$launcher" ] || cannot "the glidein brought no bundle, and there is no launcher on this node"
[ -x "$launcher" ] || cannot "there is no program $launcher on this node"

site=$(config_value VMBROKER_SITE)
[ -z "$site" ] || export VMBROKER_SITE="$site"
PATH=${PATH:+$PATH:}/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# A glidein's own folder is deep, and sockets' paths are short. Images are where the site says, else with the glidein.
set -- --scratch /tmp
[ -n "$site${VMBROKER_LAUNCHER_CACHE:-}" ] || set -- "$@" --cache "$work_dir/vmbroker-cache"
# What it says on stderr is in the glidein's own.
said=$(timeout -k 5 "$limit_s" "$launcher" advertise "$@" </dev/null)
status=$?
case $status in
0) ;;
124 | 137) cannot "$launcher advertise did not end within $limit_s s" ;;
*) cannot "$launcher advertise ended with status $status" ;;
esac
case $said in
'CAN_RUN_VIRTUAL_MACHINE = true'*) ;;
'CAN_RUN_VIRTUAL_MACHINE = false'*)
	reason=$(printf '%s\n' "$said" | sed -n 's/^VMBROKER_REASON = "\(.*\)"$/\1/p')
	cannot "${reason:-it does not say why}"
	;;
*) cannot "$launcher advertise printed something else than what it is to print" ;;
esac

while IFS= read -r line; do
	publish_line "$line"
done <<LINES
$said
LINES
"$error_gen" -ok "$script" CAN_RUN_VIRTUAL_MACHINE True
exit 0
