#include "fletcher.h"

uint16_t fletcher16(uint16_t sum, const unsigned char *p, size_t n)
{
	unsigned a = sum & 0xff, b = sum >> 8;

	while (n--) {
		a = (a + *p++) % 255;
		b = (b + a) % 255;
	}
	return (uint16_t)(b << 8 | a);
}
