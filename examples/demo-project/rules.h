/* Packet filter rules: "allow 10.0.0.0/8", "deny 0.0.0.0/0", one a line. */
#ifndef RULES_H
#define RULES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct rule {
	int allow;         /* 1 allow, 0 deny */
	uint32_t net;      /* host byte order, the bits behind the prefix are 0 */
	unsigned prefix;   /* 0 to 32 */
};

struct rules {
	struct rule *rule;
	size_t count;
};

/* Parses an IPv4 address in dotted form. Returns 0, or -1 where it is none. */
int address_parse(const char *text, uint32_t *address);

/* Parses one line without its newline. Returns 1 for a rule, 0 for a blank
 * line or a comment, -1 for a mistake. */
int rule_parse(const char *line, struct rule *r);

/* Reads a file. Returns 0; the number of the first bad line; or -1 with errno. */
int rules_read(FILE *f, struct rules *rs);
void rules_free(struct rules *rs);

/* The first rule that fits decides; what none fits is denied. */
int rules_allow(const struct rules *rs, uint32_t address);

#endif
