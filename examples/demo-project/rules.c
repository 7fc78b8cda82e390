#include "rules.h"

#include <stdlib.h>
#include <string.h>

/* The bits of an address that a prefix covers. A shift by 32 is undefined in C,
 * and on x86 does nothing: "0.0.0.0/0" would fit the address 0.0.0.0 alone. */
static uint32_t mask(unsigned prefix)
{
	return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

int address_parse(const char *text, uint32_t *address)
{
	unsigned byte[4];
	char rest;

	if (sscanf(text, "%3u.%3u.%3u.%3u%c", &byte[0], &byte[1], &byte[2], &byte[3], &rest) != 4)
		return -1;
	*address = 0;
	for (int i = 0; i < 4; i++) {
		if (byte[i] > 255)
			return -1;
		*address = *address << 8 | byte[i];
	}
	return 0;
}

int rule_parse(const char *line, struct rule *r)
{
	char verb[8], net[32], rest;
	unsigned prefix;

	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return 0;
	if (sscanf(line, "%7s %31[0-9.]/%2u %c", verb, net, &prefix, &rest) != 3)
		return -1;
	if (strcmp(verb, "allow") != 0 && strcmp(verb, "deny") != 0)
		return -1;
	if (prefix > 32 || address_parse(net, &r->net) != 0 || (r->net & ~mask(prefix)) != 0)
		return -1;
	r->allow = strcmp(verb, "allow") == 0;
	r->prefix = prefix;
	return 1;
}

int rules_read(FILE *f, struct rules *rs)
{
	char line[256];

	rs->rule = NULL;
	rs->count = 0;
	for (int n = 1; fgets(line, sizeof line, f) != NULL; n++) {
		struct rule r, *more;

		line[strcspn(line, "\n")] = '\0';
		switch (rule_parse(line, &r)) {
		case -1:
			return n;
		case 1:
			more = realloc(rs->rule, (rs->count + 1) * sizeof r);
			if (more == NULL)
				return -1;
			rs->rule = more;
			rs->rule[rs->count++] = r;
		}
	}
	return ferror(f) ? -1 : 0;
}

void rules_free(struct rules *rs)
{
	free(rs->rule);
	rs->rule = NULL;
	rs->count = 0;
}

int rules_allow(const struct rules *rs, uint32_t address)
{
	for (size_t i = 0; i < rs->count; i++)
		if ((address & mask(rs->rule[i].prefix)) == rs->rule[i].net)
			return rs->rule[i].allow;
	return 0;
}
