package source

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/failure"
)

// svn is the driver of Subversion: it runs the real svn. A revision is the number
// in which the folder was last changed; a branch is a folder, from the URL:
// "branches/4.2", or "../branches/4.2" where that is the trunk's.
type svn struct {
	tool
	url string
}

func newSVN(t tool, address string) *svn {
	if path.IsAbs(address) {
		address = (&url.URL{Scheme: "file", Path: address}).String()
	}
	return &svn{t, strings.TrimSuffix(address, "/")}
}

// shown is the URL as records and errors may have it.
func (s *svn) shown() string { return config.Redact(s.url) }

func (s *svn) run(ctx context.Context, dir string, limit time.Duration, args ...string) (string, error) {
	out, err := s.output(ctx, dir, limit, append([]string{"svn", "--non-interactive"}, args...)...)
	return strings.TrimSpace(string(out)), err
}

// at is the URL of a branch; its "@" says that none in the URL is a revision's.
func (s *svn) at(branch, revision string) string {
	if u, err := url.Parse(s.url); err == nil && branch != "" {
		return u.JoinPath(branch).String() + "@" + revision
	}
	return s.url + "@" + revision
}

// said tells whether svn failed with one of these error numbers.
func said(err error, numbers ...string) bool {
	var failed *toolError
	if !errors.As(err, &failed) {
		return false
	}
	for _, n := range numbers {
		if strings.Contains(failed.said, n) {
			return true
		}
	}
	return false
}

func (s *svn) Head(ctx context.Context, branch string) (Revision, error) {
	id, err := s.run(ctx, "/", pollTimeout, "info", "--show-item", "last-changed-revision", "--", s.at(branch, "HEAD"))
	switch {
	case err != nil && branch != "" && said(err, "W170000", "E170000", "W160013", "E160013"):
		return Revision{}, failure.Errorf(failure.Usage, "repository %q has no branch %q: %w", s.shown(), branch, err)
	case err != nil:
		return Revision{}, err
	case !svnNumber.MatchString(id):
		return Revision{}, fmt.Errorf("svn info: bad revision %q", id)
	}
	return Revision{ID: id, Branch: branch}, nil
}

var (
	svnNumber = regexp.MustCompile(`^[0-9]{1,18}$`)
	svnName   = regexp.MustCompile(`^(r?[0-9]{1,18}|HEAD|\{[0-9TZ:. +-]+\})$`)
)

// Fetch brings repo, a working copy, to the revision; what a build has changed in
// it is undone by Checkout.
func (s *svn) Fetch(ctx context.Context, repo string, rev Revision) error {
	from := s.at(rev.Branch, rev.ID)
	if _, err := s.host.Stat(ctx, repo, ".svn/wc.db"); err == nil {
		// Its locks are of an svn that was killed: the builder's lock says that none runs.
		if _, err = s.run(ctx, repo, 0, "cleanup"); err == nil {
			if _, err = s.run(ctx, repo, 0, "revert", "-q", "-R", "."); err == nil {
				_, err = s.run(ctx, repo, 0, "switch", "-q", "--force", "--accept", "theirs-full", "--ignore-ancestry", "-r", rev.ID, "--", from, ".")
			}
		}
		if err == nil || ctx.Err() != nil || said(err, "E170013", "E670002", "E000111", "E175002") {
			return err // or the network, and not the working copy
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Another repository's, or not to be mended.
	if err := s.host.Remove(ctx, repo); err != nil {
		return err
	}
	if err := s.host.Mkdir(ctx, repo); err != nil {
		return err
	}
	_, err := s.run(ctx, repo, 0, "checkout", "-q", "-r", rev.ID, "--", from, ".")
	return err
}

// Resolve knows numbers, "HEAD" and dates in braces.
func (s *svn) Resolve(ctx context.Context, repo, name string) (string, error) {
	if !svnName.MatchString(name) {
		return "", failure.Errorf(failure.Usage, "repository %q has no revision %q: want a number, HEAD or a date in braces", s.shown(), name)
	}
	id, err := s.run(ctx, "/", pollTimeout, "info", "--show-item", "last-changed-revision", "-r", strings.TrimPrefix(name, "r"), "--", s.at("", "HEAD"))
	switch {
	case err != nil && said(err, "E160006", "E195012", "W160013", "E160013", "E195002"):
		return "", failure.Errorf(failure.Usage, "repository %q has no revision %q: %w", s.shown(), name, err)
	case err != nil:
		return "", err
	}
	return id, s.Fetch(ctx, repo, Revision{ID: id})
}

func (s *svn) Checkout(ctx context.Context, repo, id string, clean bool) error {
	if _, err := s.run(ctx, repo, 0, "revert", "-q", "-R", "."); err != nil {
		return err
	}
	if clean {
		if _, err := s.run(ctx, repo, 0, "cleanup", "--remove-unversioned", "--remove-ignored"); err != nil {
			return err
		}
	}
	// Files that a build removed are there again; the revision is Fetch's already.
	_, err := s.run(ctx, repo, 0, "update", "-q", "--force", "--accept", "theirs-full", "-r", id)
	return err
}

func (s *svn) Private() []string { return []string{".svn"} }

func (s *svn) Time(ctx context.Context, repo, id string) (time.Time, error) {
	out, err := s.run(ctx, repo, 0, "info", "--show-item", "last-changed-date", "-r", id, ".")
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, out)
	return t.UTC().Truncate(time.Second), err
}

// Count is the revision's number.
func (s *svn) Count(_ context.Context, _, id string) (int, error) { return strconv.Atoi(id) }

// svnLog is the answer of svn log --xml.
type svnLog struct {
	Entries []struct {
		Revision string    `xml:"revision,attr"`
		Author   string    `xml:"author"`
		Date     time.Time `xml:"date"`
		Message  string    `xml:"msg"`
	} `xml:"logentry"`
}

// between tells whether from is a revision before to.
func between(from, to string) bool {
	a, err := strconv.Atoi(from)
	b, berr := strconv.Atoi(to)
	return err == nil && berr == nil && a < b
}

func (s *svn) Changes(ctx context.Context, repo, from, to string, most int) ([]Change, error) {
	if !between(from, to) {
		return nil, nil
	}
	first, err := strconv.Atoi(from)
	if err != nil {
		return nil, err
	}
	out, err := s.run(ctx, repo, 0, "log", "--xml", "-l", strconv.Itoa(most), "-r", fmt.Sprintf("%s:%d", to, first+1), ".")
	if err != nil {
		return nil, err
	}
	var log svnLog
	if err := xml.Unmarshal([]byte(out), &log); err != nil {
		return nil, fmt.Errorf("svn log: %w", err)
	}
	var list []Change
	for _, e := range log.Entries {
		subject, _, _ := strings.Cut(strings.TrimSpace(e.Message), "\n")
		list = append(list, Change{ID: e.Revision, Author: e.Author, Time: e.Date.UTC().Truncate(time.Second), Subject: subject})
	}
	return list, nil
}

// svnDiff is the answer of svn diff --summarize --xml.
type svnDiff struct {
	Paths []string `xml:"paths>path"`
}

func (s *svn) Touched(ctx context.Context, repo, from, to string) (paths []string, known bool, err error) {
	if !between(from, to) {
		return nil, false, nil
	}
	out, err := s.run(ctx, repo, 0, "diff", "--summarize", "--xml", "-r", from+":"+to, ".")
	if err != nil {
		return nil, false, err
	}
	var diff svnDiff
	if err := xml.Unmarshal([]byte(out), &diff); err != nil {
		return nil, false, fmt.Errorf("svn diff: %w", err)
	}
	return diff.Paths, true, nil
}
