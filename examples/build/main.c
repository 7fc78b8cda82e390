/* checksum prints the Fletcher-16 checksum of standard input. */
#include <stdio.h>
#include <string.h>

#include "fletcher.h"

int main(int argc, char **argv)
{
	unsigned char buf[4096];
	uint16_t sum = 0;
	size_t n;

	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("checksum " VERSION);
		return 0;
	}
	while ((n = fread(buf, 1, sizeof buf, stdin)) > 0)
		sum = fletcher16(sum, buf, n);
	if (ferror(stdin))
		return 1;
	printf("%04x\n", sum);
	return 0;
}
