// Command relkit takes a Linux appliance from source to the field: it builds,
// images, installs, patches and distributes it, and hears back how it is doing.
package main

import (
	"context"
	"os"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/sys/boot"
	"github.com/relkit/relkit/pkg/sys/process"
)

func main() {
	if boot.IsInit() {
		boot.Init() // returns only where there is no init to go on with
	}
	process.Main(worker.Handlers()) // the supervisor of programs is relkit again
	os.Exit(run(context.Background(), newEnv(), os.Args))
}
