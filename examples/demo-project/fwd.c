/* fwd, the firewall of an appliance that does not exist:
 *
 *	fwd --version              say which version this is
 *	fwd --test [FILE]          read the rules and say how many there are
 *	fwd ADDRESS [FILE]         say what becomes of a packet from ADDRESS
 *
 * FILE is /etc/fwd.conf where none is given. Exit 0 for allow, 1 for deny, 2
 * for a mistake: so "fwd --test" can be the check of a patch. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rules.h"

#ifndef VERSION
#error "VERSION comes from the Makefile"
#endif

static int load(const char *file, struct rules *rs)
{
	FILE *f = fopen(file, "r");
	int bad;

	if (f == NULL) {
		fprintf(stderr, "fwd: opening %s: %s\n", file, strerror(errno));
		return -1;
	}
	bad = rules_read(f, rs);
	if (bad < 0)
		fprintf(stderr, "fwd: reading %s: %s\n", file, strerror(errno));
	if (bad > 0)
		fprintf(stderr, "fwd: reading %s: line %d is no rule\n", file, bad);
	fclose(f);
	return bad == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	const char *file = argc > 2 ? argv[2] : "/etc/fwd.conf";
	struct rules rs = {NULL, 0};
	uint32_t address;
	int status = 2;

	if (argc < 2 || argc > 3) {
		fputs("usage: fwd --version | --test [FILE] | ADDRESS [FILE]\n", stderr);
		return 2;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("fwd " VERSION);
		return 0;
	}
	if (load(file, &rs) != 0)
		;
	else if (strcmp(argv[1], "--test") == 0) {
		printf("fwd: %zu rules\n", rs.count);
		status = 0;
	} else if (address_parse(argv[1], &address) != 0) {
		fprintf(stderr, "fwd: \"%s\" is no address\n", argv[1]);
	} else {
		status = rules_allow(&rs, address) ? 0 : 1;
		puts(status == 0 ? "allow" : "deny");
	}
	rules_free(&rs);
	return status;
}
