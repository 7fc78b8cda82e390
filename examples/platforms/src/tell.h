#include <stdint.h>

/* The machine that the program was built for, as uname -m calls it. */
const char *built_for(void);

/* The number that four bytes are, the most significant one first. */
uint32_t big_endian(const unsigned char bytes[4]);
