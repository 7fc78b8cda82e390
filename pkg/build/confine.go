package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/sys/process"
)

func noNetwork(b *config.Builder) bool { return b.Network != nil && !*b.Network }

// tryConfine finds out, before a step runs, whether the worker can do without its
// network: that it cannot is none of the code's fault.
func (j *job) tryConfine(ctx context.Context) error {
	if !noNetwork(j.cell.builder) {
		return nil
	}
	res, err := j.on.Run(ctx, process.Job{Argv: []string{"true"}, Dir: "/", Env: environ(j.env), NoNetwork: true, Timeout: time.Minute})
	if err == nil && !res.OK() {
		err = failure.WithHint(fmt.Errorf("worker %q cannot run steps without a network: %s", j.cell.Worker.Name, res),
			"sysctl kernel.unprivileged_userns_clone user.max_net_namespaces  # on the worker; both must not be 0, or relkit runs there as root")
	}
	return err
}

// compilers are the folders in which packages of ccache and distcc put links to
// themselves under the names of compilers.
var compilers = map[string][]string{
	"ccache": {"/usr/lib/ccache", "/usr/lib64/ccache", "/usr/lib/ccache/bin"},
	"distcc": {"/usr/lib/distcc", "/usr/lib64/distcc", "/usr/lib/distcc/bin"},
}

// useCache sets the environment that makes compilers go through a cache.
func (j *job) useCache(ctx context.Context) error {
	name := j.cell.builder.Cache
	if name == "" {
		return nil
	}
	for _, dir := range compilers[name] {
		if _, err := j.on.Stat(ctx, dir, "."); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		j.env["PATH"] = dir + ":" + j.env["PATH"]
		if name == "ccache" {
			j.env["CCACHE_DIR"] = path.Join(j.on.Dir, "ccache")
			// Trees of the same builder on several workers share what they have compiled.
			j.env["CCACHE_BASEDIR"], j.env["CCACHE_NOHASHDIR"] = j.work, "1"
			return j.on.Mkdir(ctx, j.env["CCACHE_DIR"])
		}
		return nil
	}
	return failure.WithHint(fmt.Errorf("worker %q has no %s: none of %q is there", j.cell.Worker.Name, name, compilers[name]), "apt-get install %s  # or its like, on the worker", name)
}
