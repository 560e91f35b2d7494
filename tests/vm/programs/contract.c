/* Writes what it sees of the program's contract to OUTPUT/seen, as contract.sh does. Linked statically: of the image it
 * needs the kernel alone. Whatever is missing shows as an empty value, or as "no". */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *variable(const char *name) {
	const char *value = getenv(name);
	return value ? value : "";
}

static const char *yes_if(int condition) { return condition ? "yes" : "no"; }
static int same(const char *one, const char *other) { return *one && strcmp(one, other) == 0; }

/* The start of a file, without its line's end; in a buffer that the next call overwrites. */
static const char *content(const char *path) {
	static char text[256];
	FILE *file = fopen(path, "r");
	size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
	if (file) fclose(file);
	text[length] = 0;
	text[strcspn(text, "\n")] = 0;
	return text;
}

static const char *feature(const char *folder, const char *name) {
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", variable(folder), name);
	return content(path);
}

/* Prints the names in a folder, or only counts them. */
static int list(const char *path, FILE *out) {
	DIR *folder = opendir(path);
	int count = 0;
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
		if (out) fprintf(out, " %s", entry->d_name);
		count++;
	}
	if (folder) closedir(folder);
	return count;
}

static int proxies_agree(void) {
	const char *proxy = variable("http_proxy");
	return same(proxy, variable("https_proxy")) && same(proxy, variable("HTTP_PROXY")) &&
	       same(proxy, variable("HTTPS_PROXY"));
}

static int input_is_in(const char *folder) {
	char path[PATH_MAX + 16];
	snprintf(path, sizeof path, "%s/frame 1.txt", folder);
	return same(path, variable("VMBROKER_INPUT"));
}

int main(int count, char **arguments) {
	char folder[PATH_MAX] = "", path[PATH_MAX], rest[64];
	if (count < 5) return 2;
	int outputs = list(arguments[2], NULL);
	snprintf(path, sizeof path, "%s/seen", arguments[2]);
	FILE *out = fopen(path, "w");
	if (!out || !getcwd(folder, sizeof folder)) return 1;
	fprintf(out, "arguments %d\n", count - 1);
	fprintf(out, "input is argument %s\n", yes_if(same(arguments[1], variable("VMBROKER_INPUT"))));
	fprintf(out, "input in folder %s\n", yes_if(input_is_in(folder)));
	fprintf(out, "folder");
	list(folder, out);
	fprintf(out, "\ninput %s\n", content(arguments[1]));
	fprintf(out, "output is argument %s\n", yes_if(same(arguments[2], variable("VMBROKER_OUTPUT"))));
	fprintf(out, "output %d\n", outputs);
	fprintf(out, "item %s %s\n", arguments[3], variable("VMBROKER_ITEM"));
	fprintf(out, "parameter %s\n", arguments[4]);
	fprintf(out, "parameter %s\n", variable("VMBROKER_PARAM_MY_SEED"));
	fprintf(out, "cpus %s", feature("MACHINEFEATURES", "total_cpu"));
	fprintf(out, " %s\n", feature("JOBFEATURES", "allocated_cpu"));
	fprintf(out, "limit %s\n", feature("JOBFEATURES", "wall_limit_secs"));
	fprintf(out, "job %s\n", feature("JOBFEATURES", "job_id"));
	fprintf(out, "memory %s\n", yes_if(atoll(feature("JOBFEATURES", "max_rss_bytes")) > 100000000));
	fprintf(out, "shutdown later %s\n", yes_if(atoll(feature("MACHINEFEATURES", "shutdowntime")) > time(NULL)));
	fprintf(out, "proxies %s\n", yes_if(proxies_agree()));
	fprintf(out, "no proxy %s %s\n", variable("no_proxy"), variable("NO_PROXY"));
	fprintf(out, "account %d %s\n", (int)getuid(), variable("HOME"));
	fprintf(out, "standard input %zu\n", fread(rest, 1, sizeof rest, stdin));
	if (fclose(out) != 0) return 1;
	puts("said");
	fputs("complained\n", stderr);
	return 0;
}
