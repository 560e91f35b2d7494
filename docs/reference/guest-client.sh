#!/bin/sh
# A whole vmbroker guest in POSIX sh, for systems without Python, and as the protocol's second opinion in our tests. It
# needs curl, awk, setsid, mktemp, base64 and sha256sum, and guest-client.awk beside it. Read guest-protocol.md first.
#
#   VMBROKER_PORT=DEVICE   the port, when it is not /dev/virtio-ports/org.vmbroker.0
#   VMBROKER_RUN_FOLDER    where secrets are kept, when it is not /run: a folder that is on no disk
#   VMBROKER_STAY=1        not in a vm: leave the clock and the power alone
#
# Weaker than our own client: it counts whole seconds, enters the program's account by su, makes no features folders,
# keeps no claim key for a restart, and cannot reseed the kernel's random numbers (so the launcher's fresh entropy goes
# into the claim key).
set -efu
umask 077
here=${0%/*} program='' watcher=''
home=$(mktemp -d "${VMBROKER_RUN_FOLDER:-/run}/vmbroker.XXXXXX") work=$(mktemp -d /var/tmp/vmbroker.XXXXXX)
chmod 711 "$work"

leave() {
	trap '' TERM
	if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null || true; fi
	if [ -n "$program" ]; then kill -KILL "-$program" 2>/dev/null || true; fi
	rm -rf "$home" "$work"
	if [ -z "${VMBROKER_STAY-}" ]; then sync; poweroff -f; fi
}
trap leave EXIT
trap 'exit 13' TERM
quoted() { printf %s "$1" | tr '\001-\037\177' ' ' | sed 's/[\\"]/\\&/g'; }
say() { echo "vmbroker: $*"; printf '{"type":"log","text":"%s"}\n' "$(quoted "$*")" >&3; }
json() { mode=$1; shift; mode=$mode want=$(printf '%s\001' "$@") LC_ALL=C awk -f "$here/guest-client.awk"; }

# request NAME METHOD URL INTO [CURL OPTION...]: one request with the headers of $home/NAME.head, whose answer's go to
# $home/NAME.told; prints the status. Addresses and tokens go by a file: anybody in the vm may read a command line.
request() {
	name=$1 into=$4
	printf 'request = "%s"\nurl = "%s"\n' "$2" "$(quoted "$3")" | cat - "$home/$name.head" >"$home/$name.curl"
	shift 4
	curl -s -K "$home/$name.curl" -m 60 -D "$home/$name.told" -o "$into" -w '%{http_code}' "$@" || true
}
# call NAME PATH: send $home/NAME.body until it is taken (0) or refused (1); only a 4xx other than 429 is a refusal.
call() {
	pause=1
	printf 'header = "Content-Type: application/json"\n' >"$home/$1.head"
	if [ -n "$lease" ]; then printf 'header = "Authorization: Bearer %s"\n' "$lease" >>"$home/$1.head"; fi
	while :; do
		case $(request "$1" POST "$broker$2" "$home/$1" --data-binary "@$home/$1.body") in
		2??) return 0 ;;
		429 | 5?? | 000) ;;
		*) refusal=$(json get detail <"$home/$1"); return 1 ;;
		esac
		asked=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\).*/\1/p' "$home/$1.told" 2>/dev/null | tail -n 1)
		sleep "${asked:-$((pause + $$ % 2))}"
		if [ "$pause" -lt 32 ]; then pause=$((pause * 2)); fi
	done
}
# signed KEY...: put address, method and headers for the transfer `file` where request looks for them.
signed() {
	url=$(json get "$@" url <"$home/urls") method=$(json get "$@" method <"$home/urls")
	method=${method:-GET}
	json keys "$@" headers <"$home/urls" | while read -r header; do
		printf 'header = "%s: %s"\n' "$header" "$(quoted "$(json get "$@" headers "$header" <"$home/urls")")"
	done >"$home/file.head"
}
# ask_urls [NAME FACTS]: both as JSON.
ask_urls() {
	printf '{"outputs":[%s],"uploads":{%s}}' "${1-}" "${1:+$1:$2}" >"$home/urls.body"
	call urls /v1/lease/urls
}
fail() { # CODE SENTENCE [EXIT_CODE]
	if [ -e "$home/lost" ]; then say "the item is no longer this vm's"; exit 12; fi
	say "$2"
	printf '{"code":"%s","sentence":"%s","exit_code":%s,"log":"%s"}' \
		"$1" "$(quoted "$2")" "${3:-null}" "$(base64 <"$home/log" | tr -d '\n')" >"$home/fail.body"
	call fail /v1/lease/fail || { say "the broker refused: $refusal"; exit 24; }
	if [ "${3-}" = 75 ]; then exit 11; fi
	exit 10
}

# The port: hello until the welcome comes.
exec 3<>"${VMBROKER_PORT:-/dev/virtio-ports/org.vmbroker.0}"
welcome='' patience=300
while [ -z "$welcome" ]; do
	printf '{"type":"hello","client":"vmbroker-sh/1"}\n' >&3
	while read -r line <&3; do
		case $line in *'"type":"welcome"'*) welcome=$line; break ;; esac
	done
	if [ -z "$welcome" ]; then sleep 1; patience=$((patience - 1)); fi
	if [ "$patience" -eq 0 ]; then echo "vmbroker: no welcome"; exit 21; fi
done
told() { printf %s "$welcome" | json get "$1"; }
broker=$(told broker) lease='' proxy=$(told proxy)
if [ -n "$proxy" ]; then
	export http_proxy="$proxy" https_proxy="$proxy" HTTP_PROXY="$proxy" HTTPS_PROXY="$proxy" no_proxy=localhost,127.0.0.1
fi
if [ -z "${VMBROKER_STAY-}" ]; then date -u -s "$(told now | sed 's/T/ /; s/[.Z].*//')" >/dev/null; fi
told ca >"$home/ca"
if [ -s "$home/ca" ]; then
	cat /etc/ssl/certs/ca-certificates.crt >>"$home/ca" 2>/dev/null || true
	export CURL_CA_BUNDLE="$home/ca"
fi

# Claim. Clones of one memory repeat their random numbers: the entropy that came by the port makes the key unlike theirs.
claim_key=$({ told entropy; head -c 32 /dev/urandom; } | sha256sum | cut -c 1-32 | tr -d '\n' | base64)
printf '{"ticket":"%s","claim_key":"%s","client":"vmbroker-sh/1","takes_inputs":true}' "$(told ticket)" "$claim_key" >"$home/claim.body"
call claim /v1/claim || { say "the broker refused the ticket: $refusal"; exit 22; }
claimed() { json get "$@" <"$home/claim"; }
welcome='' lease=$(claimed lease)
run_s=$(($(claimed limits run_ms) / 1000)) beat_s=$(($(claimed limits heartbeat_ms) / 1000))
grace_s=$((run_s / 20 < 10 ? run_s / 20 : 10))
stop_at_s=$(($(date +%s) + run_s - 2 * grace_s))
say "claimed $(claimed item)"
: >"$home/log"

# The heartbeat, beside all the rest; it also watches the run limit. A broker that is away takes nothing from us.
# "kill -s TERM -- -GROUP" would be POSIX, too, but busybox takes the "--" for a process.
stop_program() {
	group=$(cat "$home/group" 2>/dev/null) || return 0
	: >"$home/stopped"
	kill -TERM "-$group" 2>/dev/null || { rm "$home/stopped"; return 0; }
	sleep "$grace_s"
	kill -KILL "-$group" 2>/dev/null || true
}
watch() {
	printf 'header = "Authorization: Bearer %s"\n' "$lease" >"$home/beat.head"
	printf 'header = "Content-Type: application/json"\n' >>"$home/beat.head"
	while :; do
		left_s=$((stop_at_s - $(date +%s)))
		sleep "$((left_s < 1 || beat_s < 1 ? 1 : left_s < beat_s ? left_s : beat_s))"
		if [ "$(date +%s)" -ge "$stop_at_s" ]; then : >"$home/late"; stop_program; fi
		case $(request beat POST "$broker/v1/lease/extend" "$home/beat" --data-binary '{}') in
		2??)
			case $(json get instruction <"$home/beat") in
			cancel | superseded) ;;
			drain) : >"$home/drain"; stop_program; continue ;;
			*) continue ;;
			esac
			;;
		429 | 5?? | 000) continue ;;
		esac
		: >"$home/lost"
		stop_program
		return
	done
}
watch 3>&- &
watcher=$!

# Fetch the inputs. A 403 says that the address grew old.
fetch() { # INTO KEY...: the input of these keys, in what is claimed and in the answer with the addresses
	into=$1
	shift
	for try in 1 2 3 4 5 6 7 8; do
		ask_urls || fail input_unavailable "the broker gave no address for an input: $refusal"
		signed "$@"
		status=$(request file "$method" "$url" "$into" -m 86400)
		case $status in 2??) break ;; 403 | 429 | 5?? | 000) sleep "$try" ;; *) try=8 ;; esac
		if [ "$try" = 8 ]; then fail input_unavailable "the input answered $status"; fi
	done
}
file_name() { case $1 in . | .. | */*) echo input ;; *) printf '%s\n' "$1" ;; esac; }
mkdir "$work/work" "$work/output" "$work/inputs"
input_name=$(claimed input name)
if [ -n "$input_name" ]; then
	export VMBROKER_INPUT="$work/work/$(file_name "$input_name")"
	fetch "$VMBROKER_INPUT" input
fi
for name in $(json keys inputs <"$home/claim"); do
	mkdir "$work/inputs/$name"
	further="$work/inputs/$name/$(file_name "$(claimed inputs "$name" name)")"
	fetch "$further" inputs "$name"
	export "VMBROKER_INPUT_$(printf %s "$name" | tr a-z A-Z | tr -c A-Z0-9 _)=$further"
done

give_back_if_drained() {
	if [ -e "$home/drain" ]; then fail program_failed "the launcher gives its vms up: given back while $1" 75; fi
}
give_back_if_drained "fetching the input"

# Run the program in a session of its own, so that it can be stopped with all that it started.
export VMBROKER_OUTPUT="$work/output" VMBROKER_ITEM="$(claimed item)"
for name in $(json keys params <"$home/claim"); do
	export "VMBROKER_PARAM_$(printf %s "$name" | tr a-z A-Z | tr -c A-Z0-9 _)=$(claimed params "$name")"
done
run='{"run":"{script} {output}"}'
if [ -n "$input_name" ]; then run='{"run":"{script} {input} {output}"}'; fi
claimed script >"$work/script"
if [ -s "$work/script" ]; then export VMBROKER_SCRIPT="$work/script"; fi
chmod 755 "$work/script"
if [ -n "$(claimed run)" ] || [ ! -s "$work/script" ]; then run=$(cat "$home/claim"); fi
words=$(printf %s "$run" | json argv run) || fail input_unavailable "the run line names what this item does not have"
eval "set -- $words"
if [ $# -eq 0 ]; then fail program_missing "the stream's run line is empty"; fi
command -v "$1" >/dev/null || fail program_missing "the program $1 is not in the image"
as_user=$(claimed as_user)
if [ "$as_user" != "$(id -un)" ]; then
	chown -R "$as_user" "$work/work" "$work/inputs" "$work/output" "$work/script" || fail program_missing "no account $as_user"
	set -- su -p -s /bin/sh -c 'exec "$@"' -- "$as_user" sh "$@"
fi
mkfifo "$home/words"
tail -c 65536 <"$home/words" >"$home/log" 3>&- &
tail=$!
(cd "$work/work" && umask 022 && exec setsid "$@") >"$home/words" 2>&1 </dev/null 3>&- &
program=$!
echo "$program" >"$home/group"
code=0
wait "$program" || code=$?
rm "$home/group"
kill -KILL "-$program" 2>/dev/null || true
program=''
wait "$tail"
if [ -e "$home/stopped" ]; then give_back_if_drained "running the program"; fi
if [ -e "$home/late" ]; then fail run_timeout "the run limit of $run_s s was reached while running the program"; fi
if [ "$code" -gt 128 ]; then fail program_failed "the program was killed by signal $((code - 128))"; fi
if [ "$code" -ne 0 ]; then fail program_failed "the program exited with status $code" "$code"; fi

# Upload what the patterns match, regular files only.
cd "$work/output"
: >"$home/outputs"
count=0 max_count=$(claimed limits max_outputs) total_bytes=0 max_bytes=$(($(claimed limits output_mib) * 1048576))
for index in $(json keys output_files <"$home/claim"); do
	claimed output_files "$index"
	echo
done >"$home/patterns"
find . -type f | sed 's,^\./,,' | sort >"$home/names"
while read -r name; do
	wanted=
	while read -r pattern; do case $name in $pattern) wanted=1 ;; esac; done <"$home/patterns"
	if [ -z "$wanted" ]; then continue; fi
	case $name in *[[:cntrl:]\\]*) fail output_refused "an output's name cannot be an address" ;; esac
	[ -f "$name" ] || fail output_refused "an output's name cannot be an address"
	size_bytes=$(($(wc -c <"$name"))) hex=$(sha256sum <"$name" | cut -c 1-64) quoted_name=$(quoted "$name")
	count=$((count + 1)) total_bytes=$((total_bytes + size_bytes))
	if [ "$count" -gt "${max_count:-1000}" ] || [ "$total_bytes" -gt "$max_bytes" ]; then
		fail output_refused "the output is more than the stream's limits allow"
	fi
	octal=$(echo "$hex" | awk '{ h = "0123456789abcdef"; for (i = 1; i < 64; i += 2)
		printf "\\0%03o", index(h, substr($0, i, 1)) * 16 + index(h, substr($0, i + 1, 1)) - 17 }')
	base64=$(printf %b "$octal" | base64 | tr -d '\n')
	for try in 1 2 3 4 5 6 7 8 9; do
		ask_urls "\"$quoted_name\"" "{\"size_bytes\":$size_bytes,\"digest\":\"sha256:$hex\"}" || fail upload_failed "the broker gave no address for an output: $refusal"
		signed outputs "$name"
		for index in $(json keys outputs "$name" folders <"$home/urls"); do
			# 201, or 405 for one that is there; of what is wrong the upload tells.
			(request file MKCOL "$(json get outputs "$name" folders "$index" <"$home/urls")" "$home/folder" >/dev/null)
		done
		# Where it is signed for, a second one would be another header than the signed.
		grep -qi '"if-none-match:' "$home/file.head" || printf 'header = "If-None-Match: *"\n' >>"$home/file.head"
		printf 'header = "Repr-Digest: sha-256=:%s:"\n' "$base64" >>"$home/file.head"
		status=$(request file "$method" "$url" "$home/file" -T "./$name" -H Expect: -m 86400)
		case $status in
		2??) break ;;
		412) # An earlier try may have stored it, and its answer been lost: the digest of what is there tells.
			signed outputs "$name"
			(request file HEAD "$url" "$home/file" -I >/dev/null)
			if grep -qF "$base64" "$home/file.told"; then break; fi
			try=9
			;;
		403 | 429 | 5?? | 000) sleep "$try" ;;
		*) try=9 ;;
		esac
		if [ "$try" = 9 ]; then fail upload_failed "the output $name answered $status"; fi
	done
	if [ -s "$home/outputs" ]; then printf , >>"$home/outputs"; fi
	printf '{"name":"%s","size_bytes":%s,"digest":"sha256:%s","url":"%s"}' "$quoted_name" "$size_bytes" "$hex" \
		"$(quoted "$(json get outputs "$name" target <"$home/urls")")" >>"$home/outputs"
done <"$home/names"
printf '{"exit_code":0,"outputs":[%s],"facts":{"client":"vmbroker-sh/1"},"log":"%s"}' \
	"$(cat "$home/outputs")" "$(base64 <"$home/log" | tr -d '\n')" >"$home/complete.body"
if [ -e "$home/lost" ]; then say "the item is no longer this vm's"; exit 12; fi
call complete /v1/lease/complete || { say "the broker refused the result: $refusal"; exit 24; }
say "$(json get item <"$home/complete") is $(json get state <"$home/complete")"
