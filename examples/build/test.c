/* The tests print their results as JUnit XML and fail through them alone. */
#include <stdio.h>
#include <string.h>

#include "fletcher.h"

static void check(const char *name, const char *text, unsigned want)
{
	unsigned got = fletcher16(0, (const unsigned char *)text, strlen(text));

	printf("  <testcase classname=\"fletcher16\" name=\"%s\">", name);
	if (got != want)
		printf("<failure message=\"got %04x, want %04x\"/>", got, want);
	puts("</testcase>");
}

int main(void)
{
	puts("<testsuite name=\"fletcher\">");
	check("five letters", "abcde", 0xc8f0);
	check("six letters", "abcdef", 0x2057);
	check("eight letters", "abcdefgh", 0x0627);
	check("nothing", "", 0);
	puts("</testsuite>");
	return 0;
}
