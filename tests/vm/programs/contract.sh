#!/bin/sh
# Writes what it sees of the program's contract to OUTPUT/seen, one line each. contract.py and contract.c do the same.
# Called with: INPUT OUTPUT ITEM PARAMETER
set -u
yes_if() { if "$@"; then echo yes; else echo no; fi; }
all_are() { [ -n "$http_proxy" ] && [ "$http_proxy" = "$https_proxy" ] && [ "$http_proxy" = "$HTTP_PROXY" ] && [ "$http_proxy" = "$HTTPS_PROXY" ]; }
now=$(date +%s)
{
	echo "arguments $#"
	echo "input is argument $(yes_if [ "$1" = "$VMBROKER_INPUT" ])"
	echo "input in folder $(yes_if [ "$PWD/frame 1.txt" = "$VMBROKER_INPUT" ])"
	echo "folder $(ls -A)"
	echo "input $(cat "$1")"
	echo "output is argument $(yes_if [ "$2" = "$VMBROKER_OUTPUT" ])"
	echo "output $(ls -A "$2" | grep -cv '^seen$')"
	echo "item $3 $VMBROKER_ITEM"
	echo "parameter $4"
	echo "parameter $VMBROKER_PARAM_MY_SEED"
	echo "cpus $(cat "$MACHINEFEATURES/total_cpu") $(cat "$JOBFEATURES/allocated_cpu")"
	echo "limit $(cat "$JOBFEATURES/wall_limit_secs")"
	echo "job $(cat "$JOBFEATURES/job_id")"
	echo "memory $(yes_if [ "$(cat "$JOBFEATURES/max_rss_bytes")" -gt 100000000 ])"
	echo "shutdown later $(yes_if [ "$(cat "$MACHINEFEATURES/shutdowntime")" -gt "$now" ])"
	echo "proxies $(yes_if all_are)"
	echo "no proxy $no_proxy $NO_PROXY"
	echo "account $(id -u) $HOME"
	echo "standard input $(wc -c)"
} >"$2/seen"
echo said
echo complained >&2
