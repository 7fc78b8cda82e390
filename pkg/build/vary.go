package build

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/sys/process"
)

const (
	// laterSeconds is how much later the clock of a second build is: another year,
	// month, day, hour and minute.
	laterSeconds = (373*24+7)*3600 + 13*60
	// otherZone is its time zone: fourteen hours east of UTC.
	otherZone = "<+14>-14"
	otherName = "relkit-repro" // of the host
)

// circumstances are what is different for the steps of a second build.
type circumstances struct {
	env  map[string]string
	list []record.BuildVariation

	umask, host string
	// unshare is where unshare(1) is.
	unshare string
	// work is the folder whose entries come in another order, and under an empty one
	// where it is bound for that; "" for neither.
	work, under string
	// clock is what goes before a command for another clock.
	clock []string
}

// wrap is how a command is run under the circumstances.
func (c *circumstances) wrap(argv []string) []string {
	argv = append(slices.Clone(c.clock), argv...)
	if c.umask == "" && c.host == "" && c.work == "" {
		return argv
	}
	// The folder is mounted over, so that it has to be entered anew.
	// PATH may be the builder's own, for a toolchain.
	script, run := "w=$1 u=$2 d=$PWD p=$PATH; shift 2\nPATH="+defaultPath+"\n", `PATH=$p; exec "$@"`
	if c.host != "" {
		script += "echo " + c.host + " >/proc/sys/kernel/hostname || exit 125\n"
	}
	if c.work != "" {
		script += `mount --bind "$w" "$u" && disorderfs --quiet --reverse-dirents=yes -o nonempty "$u" "$w" >/dev/null && cd "$d" || exit 125` + "\n"
		run = `PATH=$p; "$@"; s=$?; cd /; PATH=` + defaultPath + `; umount "$w" 2>/dev/null; exit $s`
	}
	if c.umask != "" {
		script += "umask " + c.umask + "\n"
	}
	var prefix []string
	if c.host != "" || c.work != "" {
		prefix = []string{c.unshare, "--uts", "--mount", "--"}
	}
	return append(append(prefix, "/bin/sh", "-c", script+run, "relkit", c.work, c.under), argv...)
}

func (c *circumstances) note(what string, varied bool, format string, args ...any) {
	c.list = append(c.list, record.BuildVariation{What: what, Varied: varied, How: fmt.Sprintf(format, args...)})
}

// probe runs a small program on the worker and answers what it prints; ok is false
// where it is not there or fails, and said is then why.
func (j *job) probe(ctx context.Context, dir string, argv ...string) (said string, ok bool, err error) {
	var out []byte
	res, err := j.on.Run(ctx, process.Job{Argv: argv, Dir: dir, Env: j.r.toolEnv(j.on), Timeout: time.Minute, Output: func(o process.Output) error {
		out = append(out, o.Data[:min(len(o.Data), maxSaid-len(out))]...)
		return nil
	}})
	said = strings.TrimSpace(string(out))
	if err == nil && !res.OK() && said == "" {
		said = res.String()
	}
	return said, res.OK(), err
}

// vary finds out which circumstances the worker of a second build can make
// different from those of the first, of those that are wanted.
func (j *job) vary(ctx context.Context, first *job, want []string) error {
	j.differs = &circumstances{env: map[string]string{"CCACHE_DISABLE": "1"}} // what the first left there would be compared with itself
	for _, v := range []struct {
		what string
		vary func(context.Context, *circumstances) error
	}{{"time", j.varyTime}, {"locale", j.varyLocale}, {"umask", j.varyUmask}, {"fileorder", j.varyOrder}, {"hostname", j.varyHost}} {
		if !slices.Contains(want, v.what) {
			continue
		}
		if err := v.vary(ctx, j.differs); err != nil {
			return fmt.Errorf("finding out whether %s can be varied: %w", v.what, err)
		}
	}
	c := j.differs
	switch {
	case j.work != first.work:
		c.note("path", true, "%s instead of %s", j.work, first.work)
	case slices.Contains(want, "path"):
		c.note("path", false, "it is the same: %s", j.work)
	}
	switch {
	case j.cell.Worker.Name != first.cell.Worker.Name:
		c.note("worker", true, "%s instead of %s", j.cell.Worker.Name, first.cell.Worker.Name)
	case slices.Contains(want, "worker"):
		c.note("worker", false, "no other worker that matches builder.on could be used")
	}
	slices.SortStableFunc(c.list, func(a, b record.BuildVariation) int {
		return slices.Index(config.Variations, a.What) - slices.Index(config.Variations, b.What)
	})
	return nil
}

func (j *job) varyTime(ctx context.Context, c *circumstances) error {
	c.env["TZ"] = otherZone
	library, ok, err := j.probe(ctx, "/", "faketime", "-f", "+0", "/bin/sh", "-c", `printf %s "$LD_PRELOAD"`)
	if err != nil {
		return err
	}
	if !ok {
		c.note("time", false, "the worker has no faketime(1): the time zone alone is another, %s", otherZone)
		return nil
	}
	// The times of files stay what they are: make would see them all as old, or as new.
	clock := []string{"/usr/bin/env", "LD_PRELOAD=" + library, fmt.Sprintf("FAKETIME=+%d", laterSeconds), "NO_FAKE_STAT=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"}
	text, ok, err := j.probe(ctx, "/", append(clock, "date", "+%s")...)
	if err != nil {
		return err
	}
	if n, perr := strconv.ParseInt(text, 10, 64); !ok || perr != nil || n < time.Now().Unix()+laterSeconds/2 {
		c.note("time", false, "faketime(1) has no effect on the worker: the time zone alone is another, %s", otherZone)
		return nil
	}
	c.clock = clock
	c.note("time", true, "%d s later, time zone %s", laterSeconds, otherZone)
	return nil
}

// plainLocale is one that sorts and speaks as C does.
var plainLocale = regexp.MustCompile(`(?i)^(C|POSIX)(\..*)?$`)

func (j *job) varyLocale(ctx context.Context, c *circumstances) error {
	text, _, err := j.probe(ctx, "/", "locale", "-a")
	if err != nil {
		return err
	}
	other := "C" // the first build has C.UTF-8
	for name := range strings.Lines(text) {
		name = strings.TrimSpace(name)
		if !shellSafe.MatchString(name) || name == "" || plainLocale.MatchString(name) {
			continue
		}
		if other == "C" || strings.HasPrefix(other, "en_") && !strings.HasPrefix(name, "en_") {
			other = name
		}
	}
	c.env["LANG"], c.env["LC_ALL"] = other, other
	c.note("locale", true, "%s", other)
	return nil
}

func (j *job) varyUmask(ctx context.Context, c *circumstances) error {
	now, ok, err := j.probe(ctx, "/", "/bin/sh", "-c", "umask")
	if err != nil || !ok {
		return err
	}
	c.umask = "0002"
	if strings.TrimLeft(now, "0") == "2" {
		c.umask = "0022"
	}
	c.note("umask", true, "%s instead of %s", c.umask, now)
	return nil
}

func (j *job) varyOrder(ctx context.Context, c *circumstances) error {
	under := path.Join(path.Dir(j.work), ".under-"+path.Base(j.work))
	if err := j.on.Folders(ctx, nil, []string{under, j.work}); err != nil {
		return err
	}
	program, err := j.findUnshare(ctx)
	if err != nil {
		return err
	}
	try := &circumstances{work: j.work, under: under, unshare: program}
	said, ok, err := j.probe(ctx, j.work, try.wrap([]string{"grep", "-qF", " " + mountName(j.work) + " fuse", "/proc/mounts"})...)
	if err != nil {
		return err
	}
	if !ok {
		c.note("fileorder", false, "the worker cannot: that takes root, unshare(1) and disorderfs(1): %s", firstLine(said))
		return j.on.Remove(ctx, under)
	}
	c.work, c.under, c.unshare = j.work, under, program
	c.note("fileorder", true, "folders list their entries in reverse")
	return nil
}

// mountName is a path as /proc/mounts has it.
func mountName(p string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(p)
}

// findUnshare is where the worker has unshare(1); its name alone where it has none.
func (j *job) findUnshare(ctx context.Context) (string, error) {
	said, ok, err := j.probe(ctx, "/", "/bin/sh", "-c", "PATH="+defaultPath+"; command -v unshare")
	if !ok || !path.IsAbs(said) {
		said = "unshare"
	}
	return said, err
}

func (j *job) varyHost(ctx context.Context, c *circumstances) error {
	program, err := j.findUnshare(ctx)
	if err != nil {
		return err
	}
	try := &circumstances{host: otherName, unshare: program}
	said, ok, err := j.probe(ctx, "/", try.wrap([]string{"uname", "-n"})...)
	if err != nil {
		return err
	}
	if !ok || said != otherName {
		c.note("hostname", false, "the worker cannot: that takes root and unshare(1): %s", firstLine(said))
		return nil
	}
	c.host, c.unshare = otherName, program
	c.note("hostname", true, "%s", otherName)
	return nil
}

func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}
