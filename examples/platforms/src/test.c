/* The tests print TAP. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "tell.h"

int main(void)
{
	static const unsigned char bytes[4] = {0x12, 0x34, 0x56, 0xf8};
	struct utsname machine;

	puts("1..2");
	printf("%sok 1 - four bytes\n", big_endian(bytes) == 0x123456f8 ? "" : "not ");
	uname(&machine);
	printf("%sok 2 - runs on %s\n", strcmp(machine.machine, built_for()) ? "not " : "", machine.machine);
	return 0;
}
