#include <stdio.h>

#include "tell.h"

int main(void)
{
	printf("tell %s for %s\n", VERSION, built_for());
	return 0;
}
