#ifndef FLETCHER_H
#define FLETCHER_H

#include <stddef.h>
#include <stdint.h>

/* fletcher16 goes on with a checksum (0 to begin) over n more bytes. */
uint16_t fletcher16(uint16_t sum, const unsigned char *p, size_t n);

#endif
