/* The unit tests of rules.c. They write what they found to the file named by
 * the first argument, in the XML that JUnit made common. */
#include <stdio.h>
#include <string.h>

#include "rules.h"

static FILE *xml;
static int failures;

static void check(const char *name, int ok)
{
	printf("%s %s\n", ok ? "ok    " : "not ok", name);
	fprintf(xml, "  <testcase classname=\"rules\" name=\"%s\"", name);
	if (ok) {
		fputs("/>\n", xml);
		return;
	}
	fputs("><failure message=\"does not hold\"/></testcase>\n", xml);
	failures++;
}

/* What the rules say of an address: 1 allow, 0 deny, -1 for bad rules. */
static int ask(const char *text, const char *from)
{
	struct rules rs;
	uint32_t address;
	FILE *f = fmemopen((char *)text, strlen(text), "r");
	int answer = -1;

	if (f == NULL)
		return -1;
	if (rules_read(f, &rs) == 0 && address_parse(from, &address) == 0)
		answer = rules_allow(&rs, address);
	rules_free(&rs);
	fclose(f);
	return answer;
}

int main(int argc, char **argv)
{
	struct rule r;
	uint32_t a;

	if (argc != 2 || (xml = fopen(argv[1], "w")) == NULL) {
		fputs("usage: test_rules FILE.xml\n", stderr);
		return 2;
	}
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"rules\">\n", xml);

	check("an address", address_parse("10.1.2.3", &a) == 0 && a == 0x0a010203);
	check("a byte too large", address_parse("10.1.2.256", &a) != 0);
	check("text behind an address", address_parse("10.1.2.3x", &a) != 0);
	check("a rule", rule_parse("allow 10.0.0.0/8", &r) == 1 && r.allow && r.prefix == 8);
	check("a comment", rule_parse("# allow 10.0.0.0/8", &r) == 0);
	check("an unknown verb", rule_parse("permit 10.0.0.0/8", &r) == -1);
	check("bits behind the prefix", rule_parse("allow 10.0.0.1/8", &r) == -1);
	check("a prefix too long", rule_parse("allow 0.0.0.0/33", &r) == -1);
	check("the first rule decides", ask("deny 10.1.0.0/16\nallow 10.0.0.0/8\n", "10.1.2.3") == 0);
	check("the second rule decides", ask("deny 10.1.0.0/16\nallow 10.0.0.0/8\n", "10.2.2.3") == 1);
	check("a rule for all", ask("allow 0.0.0.0/0\n", "192.0.2.1") == 1);
	check("a rule for one", ask("allow 192.0.2.1/32\n", "192.0.2.2") == 0);
	check("no rule", ask("# nothing\n", "192.0.2.1") == 0);

	fputs("</testsuite>\n", xml);
	if (fclose(xml) != 0)
		return 2;
	return failures == 0 ? 0 : 1;
}
