package distribute

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/transport/fetch"
	"github.com/relkit/relkit/pkg/transport/static"
)

// Listed is a channel as a list shows it. Nothing in it has been verified.
type Listed struct {
	Destination    string          `json:"destination"`
	Repo           string          `json:"repo"`
	Product        string          `json:"product"`
	Channel        string          `json:"channel"`
	State          string          `json:"state"`
	ReleasesSerial int64           `json:"releases_serial"`
	StatusSerial   int64           `json:"status_serial"`
	Expires        time.Time       `json:"expires"`
	Floor          string          `json:"floor,omitempty"`
	Releases       []ListedRelease `json:"releases"`
}

// ListedRelease is one release of it.
type ListedRelease struct {
	Version string `json:"version"`
	// ShareBasisPoints is the share of machines it has reached now.
	ShareBasisPoints int      `json:"share_basis_points"`
	Full             string   `json:"full,omitempty"` // the id of the full patch
	From             []string `json:"from"`           // the versions from which a patch leads to it
}

// List tells of every channel in a destination; repo and name narrow it where not "".
func List(ctx context.Context, to, repo, name string, now time.Time) ([]Listed, error) {
	path, ok := strings.CutPrefix(to, "dir:")
	if !ok {
		return nil, failure.Errorf(failure.Usage, "bad destination %q: want dir:PATH", to)
	}
	dir, err := static.Open(path)
	if err != nil {
		return nil, err
	}
	repos := []string{repo}
	if repo == "" {
		if repos, err = dir.Repos(); err != nil {
			return nil, err
		}
	}
	all := []Listed{}
	for _, rn := range repos {
		r, err := dir.Repo(rn)
		if err != nil {
			return nil, err
		}
		tags, err := r.Tags()
		if err != nil {
			return nil, err
		}
		for _, tag := range tags {
			c, isStatus := strings.CutSuffix(tag, channel.StatusSuffix)
			if !isStatus || name != "" && c != name {
				continue
			}
			l, err := listOne(ctx, local{r}, Ref{Path: path, Repo: rn, Name: tag}, now)
			if err != nil {
				return nil, fmt.Errorf("channel %q: %w", c, err)
			}
			l.Destination, l.Repo = to, rn
			all = append(all, *l)
		}
	}
	if name != "" && len(all) == 0 {
		return nil, fmt.Errorf("%s has no channel %q: %w", to, name, fs.ErrNotExist)
	}
	return all, nil
}

func listOne(ctx context.Context, repo repository, ref Ref, now time.Time) (*Listed, error) {
	doc, err := readDocument(ctx, repo, ref, kindStatus, fetch.Options{})
	if err != nil {
		return nil, err
	}
	s, err := channel.ParseStatus(doc.body)
	if err != nil {
		return nil, err
	}
	if doc, err = readDocument(ctx, repo, ref.At(s.Releases.Manifest.String()), kindReleases, fetch.Options{}); err != nil {
		return nil, err
	}
	r, err := channel.ParseReleases(doc.body)
	if err != nil {
		return nil, err
	}
	l := &Listed{Product: r.Product, Channel: s.Channel, State: s.State, ReleasesSerial: r.Serial, StatusSerial: s.Serial, Expires: s.Expires, Floor: r.Floor, Releases: []ListedRelease{}}
	for i, rel := range r.Releases {
		one := ListedRelease{Version: rel.Version, ShareBasisPoints: channel.ShareAt(rel.Rollout, now, s.Issued), From: []string{}}
		if i == len(r.Releases)-1 {
			one.ShareBasisPoints = min(one.ShareBasisPoints, s.CapBasisPoints)
		}
		if rel.Full != nil {
			one.Full = rel.Full.ID
		}
		for _, p := range r.Patches {
			if p.To == rel.Version {
				one.From = append(one.From, p.From)
			}
		}
		l.Releases = append(l.Releases, one)
	}
	return l, nil
}

// Lines shows it to a person.
func (l *Listed) Lines(now time.Time) []string {
	state := l.State
	if !now.Before(l.Expires) {
		state += " (expired)"
	}
	lines := []string{fmt.Sprintf("%s#%s:%s  product %s  %s  releases-serial %d  status-serial %d  expires %s", l.Destination, l.Repo, l.Channel, l.Product, state,
		l.ReleasesSerial, l.StatusSerial, l.Expires.Format(time.RFC3339))}
	for _, r := range l.Releases {
		text := fmt.Sprintf("  %s  %s", r.Version, channel.Percent(r.ShareBasisPoints))
		if len(r.From) > 0 {
			text += "  from " + strings.Join(r.From, " ")
		}
		if r.Full != "" {
			text += "  full"
		}
		lines = append(lines, text)
	}
	return lines
}
