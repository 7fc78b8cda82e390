package build

import (
	"maps"
	"slices"
	"strconv"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/format/record"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// network are the caller's variables that programs need to reach other machines.
var network = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// gitVariables are the caller's variables that say how git, svn and hg reach a repository.
var gitVariables = []string{"SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM",
	"GIT_CONFIG_NOSYSTEM", "GIT_SSL_CAINFO", "XDG_CONFIG_HOME",
	"SVN_SSH", "HGRCPATH"}

// inherited takes some variables over from the caller.
func (r *runner) inherited(env map[string]string, names ...string) {
	for _, name := range names {
		if v, ok := r.opt.LookupEnv(name); ok {
			env[name] = v
		}
	}
}

// base is what every program on this machine gets.
func (r *runner) base() map[string]string {
	env := map[string]string{"PATH": defaultPath, "HOME": "/", "TZ": "UTC"}
	r.inherited(env, append([]string{"PATH", "HOME", "USER", "LOGNAME"}, network...)...)
	return env
}

// baseOn is what every program on a worker gets: on another machine, what its user has there.
func (r *runner) baseOn(on *worker.Session) map[string]string {
	if on.Kind == worker.Local {
		return r.base()
	}
	env := map[string]string{"PATH": defaultPath, "HOME": "/", "TZ": "UTC"}
	maps.Copy(env, on.Env)
	return env
}

// toolEnv is the environment of the programs that fetch sources: nothing asks
// for a password, messages are English.
func (r *runner) toolEnv(on *worker.Session) []string {
	env := r.baseOn(on)
	if on.Kind == worker.Local {
		r.inherited(env, gitVariables...)
	}
	env["LC_ALL"], env["GIT_TERMINAL_PROMPT"], env["GIT_ASKPASS"], env["SSH_ASKPASS"] = "C", "0", "", ""
	return environ(env)
}

// stepEnv is the environment of the steps, as relkit-build(1) lists it.
func (r *runner) stepEnv(on *worker.Session, c *Cell, b *record.Build, trees []*tree, tmp string) map[string]string {
	env := r.baseOn(on)
	env["LANG"], env["TERM"], env["SHELL"], env["CI"], env["TMPDIR"] = "C.UTF-8", "dumb", "/bin/sh", "true", tmp
	env["SOURCE_DATE_EPOCH"] = strconv.FormatInt(b.SourceDateEpoch, 10)
	env["RELKIT_PROJECT"], env["RELKIT_BUILDER"] = b.Project, b.Builder
	env["RELKIT_NUMBER"], env["RELKIT_REASON"] = strconv.Itoa(b.Number), b.Reason
	env["RELKIT_WORKER"], env["RELKIT_SLOTS"] = b.Worker.Name, strconv.Itoa(c.Slots)
	if b.Version != "" {
		env["RELKIT_PROJECT_VERSION"] = b.Version
	}
	for i, t := range trees {
		if i == 0 {
			env["RELKIT_REVISION"], env["RELKIT_BRANCH"] = t.record.Revision, t.record.Branch
		}
		env["RELKIT_SOURCE_"+envWord(t.record.Name)] = t.dir
	}
	for axis, v := range c.Axes {
		env["RELKIT_AXIS_"+envWord(axis)] = v
	}
	for k, v := range b.Set {
		env["RELKIT_SET_"+envWord(k)] = v
	}
	return env
}

// environ is env as execve(2) takes it, sorted.
func environ(env map[string]string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}
