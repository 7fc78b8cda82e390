package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/engine/store"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/image"
)

// defaultStore is where images are kept where --store does not say.
const defaultStore = "/var/lib/relkit/store"

func getimageCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "getimage",
		Category:  groupImage,
		Usage:     "take an image into the store, and look after the store",
		ArgsUsage: "SOURCE NAME[:VERSION]",
		Flags: []cli.Flag{
			storeFlag(defaultStore),
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what `GLOB` matches; may be repeated"},
			&cli.StringFlag{Name: "parent", Usage: "share equal files with `NAME:VERSION` (default: the newest version of NAME; none: share nothing)"},
			&cli.StringFlag{Name: "identity", Usage: "`keep|reset` machine id, host keys, leases", Value: record.IdentityKeep},
			&cli.BoolFlag{Name: "no-owner", Usage: "without root: all is yours, devices and privileged attributes are left out"},
			&cli.StringFlag{Name: "verify", Usage: "compare the stored image `NAME:VERSION` with its manifest"},
			&cli.BoolFlag{Name: "list", Usage: "list the images in the store"},
			&cli.BoolFlag{Name: "prune", Usage: "remove old versions (of the images named, else of all)"},
			&cli.IntFlag{Name: "keep", Usage: "with --prune, keep the newest `N` versions"},
			dryRunFlag(), jobsFlag(),
		},
		Action: func(c *cli.Context) error {
			verify, list, prune := c.String("verify") != "", c.Bool("list"), c.Bool("prune")
			switch {
			case c.IsSet("keep") && !prune:
				return failure.Errorf(failure.Usage, "--keep goes with --prune")
			case verify && list || verify && prune || list && prune:
				return failure.Errorf(failure.Usage, "want one of --verify, --list and --prune")
			case verify:
				return e.verifyImage(c)
			case list:
				return e.listImages(c)
			case prune:
				return e.pruneImages(c)
			}
			if c.Bool("dry-run") {
				return failure.Errorf(failure.Usage, "--dry-run goes with --prune")
			}
			return e.takeImage(c)
		},
	}
}

// imageResult is the document of getimage --json.
type imageResult struct {
	Schema string        `json:"schema"`
	Path   string        `json:"path"`
	Image  *record.Image `json:"image"`
}

func (e *env) takeImage(c *cli.Context) error {
	args, err := e.operands(c, 2, 2)
	if err != nil {
		return err
	}
	opts := image.Options{Parent: c.String("parent"), Exclude: c.StringSlice("exclude"), NoOwner: c.Bool("no-owner"), Log: e.Log, Progress: e.progress()}
	if opts.Ref, err = store.ParseRef(args[1]); err != nil {
		return err
	}
	if opts.ResetIdentity, err = identityValue(c); err != nil {
		return err
	}
	if opts.Jobs, err = jobs(c); err != nil {
		return err
	}
	if opts.Created, err = e.stamp(); err != nil {
		return err
	}
	if strings.Contains(args[0], "://") {
		return failure.Errorf(failure.Usage, "SOURCE %q: want a folder, a tar archive or \"-\"", args[0])
	}
	src := image.Source{Name: args[0]}
	if info, err := os.Stat(args[0]); args[0] != "-" && err == nil && info.IsDir() {
		src.Dir = args[0]
	} else {
		stream, err := e.open(args[0])
		if err != nil {
			return err
		}
		defer stream.Close()
		src.Stream = stream
	}
	st, err := store.Create(c.String("store"))
	if err != nil {
		return err
	}
	defer st.Close()
	e.spareMemory()
	img, rec, err := image.Get(c.Context, st, src, opts)
	if rec == nil {
		return err
	}
	if perr := e.print(&imageResult{"relkit.getimage/v1", img.Dir, rec}, img.Dir); perr != nil {
		return perr
	}
	return err
}

func identityValue(c *cli.Context) (reset bool, err error) {
	switch v := c.String("identity"); v {
	case record.IdentityKeep, record.IdentityReset:
		return v == record.IdentityReset, nil
	default:
		return false, failure.Errorf(failure.Usage, "reading --identity: got %q, want keep or reset", v)
	}
}

// verifyResult is the document of getimage --verify --json.
type verifyResult struct {
	Schema      string       `json:"schema"`
	Image       string       `json:"image"`
	Differences []difference `json:"differences"`
}

type difference struct {
	Path   string   `json:"path"` // escaped
	Change string   `json:"change"`
	Fields []string `json:"fields,omitempty"`
}

func (e *env) verifyImage(c *cli.Context) error {
	if _, err := e.operands(c, 0, 0); err != nil {
		return err
	}
	n, err := jobs(c)
	if err != nil {
		return err
	}
	st, err := store.Open(c.String("store"))
	if err != nil {
		return err
	}
	defer st.Close()
	img, err := st.Resolve(c.String("verify"))
	if err != nil {
		return err
	}
	e.spareMemory()
	res := &verifyResult{"relkit.image-verify/v1", img.String(), []difference{}}
	var lines []string
	for d, err := range st.Verify(c.Context, img.Ref, n) {
		if err != nil {
			return err
		}
		change := "changed"
		if d.Old == nil {
			change = "added"
		} else if d.New == nil {
			change = "removed"
		}
		res.Differences = append(res.Differences, difference{manifest.Escape(d.Path), change, d.Fields})
		lines = append(lines, d.String())
	}
	if err := e.print(res, lines...); err != nil {
		return err
	}
	if len(lines) > 0 {
		return failure.Errorf(failure.No, "image %s differs from its manifest in %d names", img.Ref, len(lines))
	}
	return nil
}

// listResult is the document of getimage --list --json.
type listResult struct {
	Schema string          `json:"schema"`
	Images []*record.Image `json:"images"`
}

func (e *env) listImages(c *cli.Context) error {
	names, err := e.operands(c, 0, -1)
	if err != nil {
		return err
	}
	st, err := store.Open(c.String("store"))
	if err != nil {
		return err
	}
	defer st.Close()
	all, err := st.List()
	if err != nil {
		return err
	}
	res := &listResult{"relkit.image-list/v1", []*record.Image{}}
	var rows [][]string
	for _, i := range all {
		if len(names) == 0 || slices.Contains(names, i.Name) {
			res.Images = append(res.Images, i)
			rows = append(rows, []string{i.Name + ":" + i.Version, i.Created.Format(time.RFC3339),
				strconv.FormatInt(i.Files, 10), strconv.FormatInt(i.Bytes, 10), i.Tree.String()})
		}
	}
	return e.print(res, columns(rows)...)
}

// imagePruneResult is the document of getimage --prune --json.
type imagePruneResult struct {
	Schema  string   `json:"schema"`
	Removed []string `json:"removed"`
}

func (e *env) pruneImages(c *cli.Context) error {
	names, err := e.operands(c, 0, -1)
	if err != nil {
		return err
	}
	if !c.IsSet("keep") {
		return failure.Errorf(failure.Usage, "--prune wants --keep N")
	}
	st, err := store.Open(c.String("store"))
	if err != nil {
		return err
	}
	defer st.Close()
	if len(names) == 0 {
		names = []string{""}
	}
	res := &imagePruneResult{"relkit.image-prune/v1", []string{}}
	for _, name := range names {
		gone, err := st.Prune(c.Context, name, c.Int("keep"), c.Bool("dry-run"))
		for _, r := range gone {
			res.Removed = append(res.Removed, r.String())
		}
		if err != nil {
			return fmt.Errorf("pruning (%d removed): %w", len(res.Removed), err)
		}
	}
	return e.print(res, res.Removed...)
}
