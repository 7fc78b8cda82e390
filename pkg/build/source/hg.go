package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
)

// hg is the driver of Mercurial: it runs the real hg.
type hg struct {
	tool
	url string
}

// shown is the URL as records and errors may have it.
func (h *hg) shown() string { return config.Redact(h.url) }

func (h *hg) run(ctx context.Context, dir string, limit time.Duration, args ...string) (string, error) {
	out, err := h.output(ctx, dir, limit, append([]string{"hg", "--noninteractive"}, args...)...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// Head is the tip of a branch; "default" is what hg calls the one without a name.
func (h *hg) Head(ctx context.Context, branch string) (Revision, error) {
	if branch == "" {
		branch = "default"
	}
	id, err := h.run(ctx, "/", pollTimeout, "identify", "--id", "--debug", "--rev="+branch, "--", h.url)
	switch {
	case err != nil && said(err, "unknown revision", "unknown branch"):
		return Revision{}, failure.Errorf(failure.Usage, "repository %q has no branch %q", h.shown(), branch)
	case err != nil:
		return Revision{}, err
	case !fullHash.MatchString(id):
		return Revision{}, fmt.Errorf("hg identify: bad revision %q", id)
	}
	return Revision{ID: id, Branch: branch}, nil
}

// prepare makes repo a repository, and puts in order what a killed hg left.
func (h *hg) prepare(ctx context.Context, repo string) error {
	_, err := h.host.Stat(ctx, repo, ".hg/requires")
	if errors.Is(err, fs.ErrNotExist) {
		if err = h.host.Remove(ctx, repo); err == nil {
			if err = h.host.Mkdir(ctx, repo); err == nil {
				_, err = h.run(ctx, repo, 0, "init")
			}
		}
		return err
	}
	if err != nil {
		return err
	}
	if _, err := h.host.Stat(ctx, repo, ".hg/store/journal"); err == nil {
		_, err := h.run(ctx, repo, 0, "recover")
		return err
	}
	return nil
}

func (h *hg) has(ctx context.Context, repo, id string) bool {
	if !fullHash.MatchString(id) {
		return false
	}
	_, err := h.run(ctx, repo, 0, "log", "--rev="+id, "--template={node}")
	return err == nil
}

// pull gets revisions; of another repository than what is there, anew.
func (h *hg) pull(ctx context.Context, repo string, args ...string) error {
	args = append(append([]string{"pull", "--quiet"}, args...), "--", h.url)
	_, err := h.run(ctx, repo, 0, args...)
	if !said(err, "unrelated") {
		return err
	}
	if err := h.host.Remove(ctx, repo); err != nil {
		return err
	}
	if err := h.prepare(ctx, repo); err != nil {
		return err
	}
	_, err = h.run(ctx, repo, 0, args...)
	return err
}

func (h *hg) Fetch(ctx context.Context, repo string, rev Revision) error {
	if err := h.prepare(ctx, repo); err != nil || h.has(ctx, repo, rev.ID) {
		return err
	}
	return h.pull(ctx, repo, "--rev="+rev.ID)
}

// Resolve knows what hg log --rev does: hashes, tags, branches, bookmarks.
func (h *hg) Resolve(ctx context.Context, repo, name string) (string, error) {
	if err := h.prepare(ctx, repo); err != nil {
		return "", err
	}
	if h.has(ctx, repo, name) {
		return name, nil
	}
	if err := h.pull(ctx, repo); err != nil {
		return "", err
	}
	id, err := h.run(ctx, repo, 0, "log", "--limit=1", "--rev="+name, "--template={node}")
	if err != nil || !fullHash.MatchString(id) {
		return "", failure.Errorf(failure.Usage, "repository %q has no revision %q", h.shown(), name)
	}
	return id, nil
}

func (h *hg) Checkout(ctx context.Context, repo, id string, clean bool) error {
	if _, err := h.run(ctx, repo, 0, "update", "--quiet", "--clean", "--rev="+id); err != nil || !clean {
		return err
	}
	_, err := h.run(ctx, repo, 0, "--config=extensions.purge=", "purge", "--all")
	return err
}

func (h *hg) Private() []string { return []string{".hg"} }

func hgTime(text string) (time.Time, error) {
	seconds, _, _ := strings.Cut(text, " ") // the other number is the zone
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("hg log: bad time %q", text)
	}
	return time.Unix(n, 0).UTC(), nil
}

func (h *hg) Time(ctx context.Context, repo, id string) (time.Time, error) {
	out, err := h.run(ctx, repo, 0, "log", "--rev="+id, "--template={date|hgdate}")
	if err != nil {
		return time.Time{}, err
	}
	return hgTime(out)
}

func (h *hg) Count(ctx context.Context, repo, id string) (int, error) {
	out, err := h.run(ctx, repo, 0, "log", "--rev=::"+id, "--template=.")
	return len(out), err
}

func (h *hg) Changes(ctx context.Context, repo, from, to string, most int) ([]Change, error) {
	if from == to || !h.has(ctx, repo, from) {
		return nil, nil
	}
	out, err := h.run(ctx, repo, 0, "log", "--limit="+strconv.Itoa(most), "--rev=reverse(only("+to+","+from+"))",
		`--template={node}\n{author|person}\n{author|email}\n{date|hgdate}\n{desc|firstline}\n`)
	if err != nil || out == "" {
		return nil, err
	}
	var list []Change
	lines := strings.Split(out, "\n")
	for ; len(lines) >= 4; lines = lines[min(5, len(lines)):] {
		c := Change{ID: lines[0], Author: lines[1], Email: lines[2]}
		if c.Time, err = hgTime(lines[3]); err != nil {
			return nil, err
		}
		if len(lines) > 4 { // the newest may be the last line, and empty
			c.Subject = lines[4]
		}
		list = append(list, c)
	}
	return list, nil
}

func (h *hg) Touched(ctx context.Context, repo, from, to string) (paths []string, known bool, err error) {
	if !h.has(ctx, repo, from) {
		return nil, false, nil
	}
	out, err := h.run(ctx, repo, 0, "status", "--no-status", "--print0", "--rev="+from, "--rev="+to)
	for p := range strings.SplitSeq(out, "\x00") {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths, err == nil, err
}
