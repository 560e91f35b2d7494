# Reads one JSON document for guest-client.sh, told by the environment what of it, `want` being names and indexes, each
# ended by \001. Mode `get` prints a value, `keys` the names in an object or the indexes of an array, one a line; `argv`
# splits the stream's run line as a shell would, fills in its placeholders, and quotes each word for eval. Ends
# with 2 when a quote is not closed, with 3 when the item lacks what a placeholder stands for.
function char(n) { return n < 128 ? sprintf("%c", n) : n < 2048 ? char2(n) : char3(n) }
function char2(n) { return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64) }
function char3(n) { return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64) }
function hex(text, n, i) {
	for (i = n = 0; ++i <= 4;) n = n * 16 + index("0123456789abcdef", tolower(substr(text, i, 1))) - 1
	return n
}
function space() { while (substr(s, p, 1) ~ /[ \t\r\n,:]/) p++ }
function string(text, c) {
	for (p++; (c = substr(s, p, 1)) != "\"" && c != ""; p++)
		if (c != "\\") text = text c
		else if ((c = substr(s, ++p, 1)) == "u") { text = text char(hex(substr(s, p + 1, 4))); p += 4 }
		else text = text (c in ESCAPES ? ESCAPES[c] : c)
	p++
	return text
}
function value(path, c, close_, key, i) {
	space()
	c = substr(s, p, 1)
	if (c == "{" || c == "[") {
		close_ = c == "{" ? "}" : "]"
		for (p++; space() substr(s, p, 1) != close_ && p <= length(s);) {
			key = close_ == "}" ? string() : i++
			if (mode == "keys" && path == want) print key
			value(path key "\001")
		}
		p++
	} else if (c == "\"") V[path] = string()
	else if (match(substr(s, p), /^[^],} \t\r\n]+/)) {
		if (substr(s, p, 4) != "null") V[path] = substr(s, p, RLENGTH)
		p += RLENGTH
	}
	else p++
}
function meaning(name) {
	if (name ~ /^param[.]/) {
		name = "params\001" substr(name, 7) "\001"
		if (!(name in V)) exit 3
		return V[name]
	}
	if (name ~ /^input[.]/) {
		if (!("inputs\001" substr(name, 7) "\001name\001" in V)) exit 3
		name = "input_" substr(name, 7)
		gsub(/[^A-Za-z0-9]/, "_", name)
	}
	name = ENVIRON["VMBROKER_" toupper(name)]
	if (name == "") exit 3
	return name
}
function filled(word, out, parts, n, i) {
	while (match(word, /[{](input|output|item|script|param[.][^{}]+|input[.][^{}]+)[}]/)) {
		out = out substr(word, 1, RSTART - 1)
		i = RSTART + RLENGTH
		out = out meaning(substr(word, RSTART + 1, RLENGTH - 2))
		word = substr(word, i)
	}
	n = split(out word, parts, "\047")
	out = n ? parts[1] : ""
	for (i = 2; i <= n; i++) out = out "\047\134\047\047" parts[i]
	return "\047" out "\047 "
}
function argv(line, i, c, quote, word, has) {
	for (i = 1; i <= length(line); i++) {
		c = substr(line, i, 1)
		if (c == quote) quote = ""
		else if (quote == "\047") word = word c
		else if (c == "\\" && (quote == "" || substr(line, i + 1, 1) ~ /["\\]/)) { word = word substr(line, ++i, 1); has = 1 }
		else if (quote == "" && (c == "\"" || c == "\047")) { quote = c; has = 1 }
		else if (quote == "" && c ~ /[ \t\r\n]/) { if (has) printf "%s", filled(word); word = has = "" }
		else { word = word c; has = 1 }
	}
	if (has) printf "%s", filled(word)
	if (quote != "") exit 2
}
{ s = s (NR > 1 ? "\n" : "") $0 }
END {
	mode = ENVIRON["mode"]; want = ENVIRON["want"]; p = 1
	ESCAPES["n"] = "\n"; ESCAPES["t"] = "\t"; ESCAPES["r"] = "\r"; ESCAPES["b"] = "\b"; ESCAPES["f"] = "\f"
	value("")
	if (mode == "get") printf "%s", V[want]
	if (mode == "argv") argv(V[want])
}
