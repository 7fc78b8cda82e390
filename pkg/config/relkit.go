package config

import (
	"fmt"
	"time"

	"github.com/relkit/relkit/pkg/failure"
)

// Relkit is relkit.toml, relkit.toml(5): what is built, from what, where and when.
type Relkit struct {
	Project   Project    `toml:"project"`
	Sources   []Source   `toml:"source"`
	Workers   []Worker   `toml:"worker"`
	Locks     []Lock     `toml:"lock"`
	Builders  []Builder  `toml:"builder"`
	Schedules []Schedule `toml:"schedule"`
	Notify    []Notify   `toml:"notify"`

	at mistakes
}

// Project is what all builders share.
type Project struct {
	Name string `toml:"name"`
	// State is the folder of builds/, history.jsonl, locks and work trees.
	State string `toml:"state"`
	// Version is the version of what is built, with substitutions ("4.2.{count}").
	Version string `toml:"version"`
	Keep    Keep   `toml:"keep"`
}

// Keep says which builds stay when old ones are removed; 0 is no bound.
type Keep struct {
	Builds int `toml:"builds"`
	Days   int `toml:"days"`
	Failed int `toml:"failed"`
	// Pinned builds stay; nil is true.
	Pinned *bool `toml:"pinned"`
}

// Source is a place that source code comes from, and so do changes.
type Source struct {
	Name   string `toml:"name"`
	VCS    string `toml:"vcs"`
	URL    string `toml:"url"`
	Branch string `toml:"branch"`
	// SHA256 is the digest of a tar archive, in hexadecimal.
	SHA256 string `toml:"sha256"`
	// Stable is how long the source must have been quiet before a change counts.
	Stable time.Duration `toml:"stable"`
	// Important and Ignore are globs over the paths that a change touches.
	Important []string `toml:"important"`
	Ignore    []string `toml:"ignore"`
}

// Worker is a place to build: this machine, one that ssh reaches, or a Slurm partition.
type Worker struct {
	Name    string   `toml:"name"`
	SSH     string   `toml:"ssh"`
	OpenSSH string   `toml:"openssh"`
	Slurm   *Slurm   `toml:"slurm"`
	Slots   int      `toml:"slots"`
	Tags    []string `toml:"tags"`
	Dir     string   `toml:"dir"`
	// Up and Down are commands that start the worker before use and stop it after.
	Up   []string `toml:"up"`
	Down []string `toml:"down"`
}

// Slurm says how srun is called.
type Slurm struct {
	Partition  string `toml:"partition"`
	Constraint string `toml:"constraint"`
	Account    string `toml:"account"`
}

// Lock is something that only so many builds may use at a time.
type Lock struct {
	Name  string `toml:"name"`
	Slots int    `toml:"slots"`
}

// Builder is one thing that is built.
type Builder struct {
	Name    string              `toml:"name"`
	Sources []string            `toml:"sources"`
	Needs   []string            `toml:"needs"`
	Locks   []string            `toml:"locks"`
	Matrix  map[string][]string `toml:"matrix"`
	Exclude []map[string]string `toml:"exclude"`
	// On is an expression over worker names and tags.
	On       string            `toml:"on"`
	Checkout string            `toml:"checkout"`
	Limits   Limits            `toml:"limits"`
	Network  *bool             `toml:"network"`
	Cache    string            `toml:"cache"`
	Env      map[string]string `toml:"env"`
	Steps    []Step            `toml:"step"`
	// Artifacts is what the builder is for.
	Artifacts Artifacts `toml:"artifacts"`
	Repro     *Repro    `toml:"repro"`
}

// The bounds of a build that relkit.toml gives none: under cron(8) nobody is there to
// stop a step that waits for an answer or prints for ever.
const (
	DefaultTime = 24 * time.Hour
	DefaultIdle = 20 * time.Minute
	DefaultLog  = Size(4 << 30)
)

// Bounded are the limits with the defaults of those that are not given.
func (l Limits) Bounded() Limits {
	if l.Time == 0 {
		l.Time = DefaultTime
	}
	if l.Idle == 0 {
		l.Idle = DefaultIdle
	}
	if l.Log == 0 {
		l.Log = DefaultLog
	}
	return l
}

// Limits bound a build; zero is the default that Bounded fills in, and of Mem no bound.
type Limits struct {
	// Time bounds all steps together, Idle the silence of each.
	Time time.Duration `toml:"time"`
	Idle time.Duration `toml:"idle"`
	Mem  Size          `toml:"mem"`
	Log  Size          `toml:"log"`
}

// Step is one command of a builder.
type Step struct {
	Name string `toml:"name"`
	// Run is a program with its arguments, Sh a script for /bin/sh -ec: one of the two.
	Run   []string          `toml:"run"`
	Sh    string            `toml:"sh"`
	Env   map[string]string `toml:"env"`
	Retry *Retry            `toml:"retry"`
	// Tests are the results that the step writes, "FORMAT:GLOB", or "FORMAT:-" on
	// its standard output.
	Tests  []string `toml:"tests"`
	OnFail string   `toml:"on_fail"`
	Flaky  string   `toml:"flaky"`
}

// Retry says when a failed step is tried again.
type Retry struct {
	Times int    `toml:"times"`
	Exit  []int  `toml:"exit"`
	Match string `toml:"match"`
}

// Artifacts are the files that a build is kept for.
type Artifacts struct {
	Paths      []string `toml:"paths"`
	SBOM       []string `toml:"sbom"`
	Provenance bool     `toml:"provenance"`
	Key        string   `toml:"key"`
}

// Repro is what differs in the second of two builds that are compared.
type Repro struct {
	// Vary are some of Variations; nil is all of them but the umask.
	Vary []string `toml:"vary"`
}

// Schedule is when builders build by themselves.
type Schedule struct {
	Name          string   `toml:"name"`
	Cron          string   `toml:"cron"`
	On            string   `toml:"on"`
	Of            []string `toml:"of"`
	Sources       []string `toml:"sources"`
	Builders      []string `toml:"builders"`
	Clean         bool     `toml:"clean"`
	OnlyIfChanged bool     `toml:"only_if_changed"`
	Repro         bool     `toml:"repro"`
}

// Notify is who hears about builds, and when.
type Notify struct {
	// Mail is a server, smtp://[USER@]HOST[:PORT] or smtps://.
	Mail     string   `toml:"mail"`
	Sendmail bool     `toml:"sendmail"`
	Webhook  string   `toml:"webhook"`
	Command  []string `toml:"command"`
	File     string   `toml:"file"`
	// Secret is where the password of Mail, or the token of Webhook, stands:
	// "file:PATH" or "env:NAME". Webhook may be such a reference itself.
	Secret string `toml:"secret"`
	From   string `toml:"from"`
	// To are addresses, and Blame; Domains are those that blame may fall on.
	To       []string `toml:"to"`
	Domains  []string `toml:"domains"`
	When     []string `toml:"when"`
	Builders []string `toml:"builders"`
	Attach   string   `toml:"attach"`
}

// Blame in Notify.To stands for the authors of what has changed.
const Blame = "blame"

// DecodeRelkit reads relkit.toml strictly, references between its parts
// included. Errors are as those of Decode.
func DecodeRelkit(name string, data []byte) (*Relkit, error) {
	r := &Relkit{}
	if err := Decode(name, data, r); err != nil {
		return nil, err
	}
	r.at = mistakes{checker{places: findPlaces(data)}, name, data}
	r.validate()
	if len(r.at.mistakes) > 0 {
		return nil, r.at.error(name, data)
	}
	return r, nil
}

// ErrorAt is an error of kind failure.Usage about the value that path leads
// to: keys (string) and indexes of arrays (int).
func (r *Relkit) ErrorAt(path []any, format string, args ...any) error {
	line, column := lineColumn(r.at.data, r.at.places.offset(placeOf(path)))
	return failure.Errorf(failure.Usage, "%s:%d:%d: %s", r.at.name, line, column, fmt.Sprintf(format, args...))
}

// mistakes is a checker that knows its file.
type mistakes struct {
	checker
	name string
	data []byte
}

func placeOf(path []any) place {
	var p place
	for _, e := range path {
		switch e := e.(type) {
		case string:
			p = p.key(e)
		case int:
			p = p.index(e)
		default:
			panic(fmt.Sprintf("config: place of %T", e))
		}
	}
	return p
}
