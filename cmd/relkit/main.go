// Command relkit takes a Linux appliance from source to the field: it builds,
// images, installs, patches and distributes it, and hears back how it is doing.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), newEnv(), os.Args))
}
