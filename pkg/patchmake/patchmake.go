// Package patchmake makes a patch out of two trees, and proves it: before the
// file appears, the patch has been applied to a copy of the old tree, the
// result compared with the new one, taken back, and compared with the old one.
package patchmake

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/delta"
	"github.com/relkit/relkit/pkg/format/digest"
	"github.com/relkit/relkit/pkg/format/glob"
	"github.com/relkit/relkit/pkg/format/identity"
	"github.com/relkit/relkit/pkg/format/manifest"
	"github.com/relkit/relkit/pkg/format/patch"
	"github.com/relkit/relkit/pkg/format/signature"
)

// Output is a file that appears whole at Commit, or not at all.
type Output interface {
	io.Writer
	Commit() error
	Abort() error
}

// Progress hears how far the work is.
type Progress interface {
	Start(total int64, what string)
	Add(n int64)
	Done()
}

// Options say what to make. New, Create, Created and Log must be set.
type Options struct {
	// Old and New are folders, folders of builds, tar archives, or stored images
	// NAME:VERSION.
	// Old is "" for a full patch; "-" is an archive that Stdin gives.
	Old, New string
	Stdin    io.Reader
	// Store is where images are stored.
	Store   string
	Meta    Meta
	Product Product
	// Include are globs of paths that may carry a private key or a machine id.
	Include []string
	// Signer signs the patch as Role; nil for an unsigned patch.
	Signer  ssh.Signer
	Role    string
	Created time.Time
	Level   delta.Level
	Jobs    int
	// Scratch is the folder for temporary files: "" for that of the output.
	Scratch string
	// Output is the file's name, "-" for a stream; "" for PRODUCT-FROM-TO.rkp.
	Output string
	// Create starts the output.
	Create   func(name string) (Output, error)
	Log      *slog.Logger
	Progress Progress
}

// Made is a patch that has been written.
type Made struct {
	Schema string        `json:"schema"`
	File   string        `json:"file"`
	Patch  digest.Digest `json:"patch"`
	ID     string        `json:"id"`
	// Bytes is the size of the file.
	Bytes   int64       `json:"bytes"`
	From    *patch.Side `json:"from,omitempty"`
	To      patch.Side  `json:"to"`
	Sizes   patch.Sizes `json:"sizes"`
	Signed  []string    `json:"signed,omitempty"`
	Product string      `json:"product"`
}

// maker is one run of Make.
type maker struct {
	*Options
	old, new *side
	scope    *scope
	scratch  *scratch
	layout   *layout
	spool    *os.File
	payload  *patch.Payload
}

// Make makes a patch, proves it and writes it.
func Make(ctx context.Context, o Options) (made *Made, err error) {
	m := &maker{Options: &o}
	defer func() {
		if cleaned := m.close(); err == nil {
			err = cleaned
		}
	}()
	if err := m.read(ctx); err != nil {
		return nil, err
	}
	changes, err := m.changes()
	if err != nil {
		return nil, err
	}
	h, hooks, err := m.header()
	if err != nil {
		return nil, err
	}
	if err := h.CheckMeta(); err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	// The output is tried before the work is done; nothing appears yet.
	if m.Output == "" {
		m.Output = defaultID(&h) + ".rkp"
	}
	out, err := m.Create(m.Output)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	config, err := glob.ParseSet(h.ConfigFiles)
	if err != nil {
		return nil, failure.As(failure.Usage, fmt.Errorf("config files: %w", err))
	}
	var old []manifest.Entry
	if m.old != nil {
		old = m.old.entries
	}
	m.layout = lay(changes, old, config)
	if err := m.pack(ctx); err != nil {
		return nil, err
	}
	entries := &patch.Entries{Bases: m.layout.used(), Changes: m.layout.changes}
	sealed, err := patch.Seal(h, hooks, entries, m.payload)
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	if err := m.prove(ctx, sealed); err != nil {
		return nil, fmt.Errorf("proving the patch: %w", err)
	}
	return m.write(out, sealed)
}

// read opens and captures both trees.
func (m *maker) read(ctx context.Context) (err error) {
	if m.Progress == nil {
		m.Progress = silent{}
	}
	if m.scope, err = m.Options.Product.scope(); err != nil {
		return err
	}
	if m.Old == "" {
		m.scope.unfilled = identity.Emptied()
	}
	note := func(path, why string) { m.Log.Warn("left out", "path", path, "why", why) }
	if m.Old != "" {
		if m.old, err = openSide(ctx, m.Old, "from", m.Options, m.scratchDir); err != nil {
			return err
		}
	}
	if m.new, err = openSide(ctx, m.New, "to", m.Options, m.scratchDir); err != nil {
		return err
	}
	m.Progress.Start(0, "reading the trees")
	defer m.Progress.Done()
	for _, s := range []*side{m.old, m.new} {
		if s == nil {
			continue
		}
		if err := s.read(ctx, m.scope, m.Jobs, note, m.Progress.Add); err != nil {
			return err
		}
	}
	if left := m.scope.leftOut(); left != "" {
		m.Log.Info("left out, as the product file says: " + left)
	}
	return nil
}

// changes are the differences, which must be some and must be fit to travel.
func (m *maker) changes() ([]patch.Change, error) {
	var changes []patch.Change
	if m.old == nil {
		changes = diff(nil, m.new.entries)
	} else {
		changes = diff(m.old.entries, m.new.entries)
	}
	if len(changes) == 0 {
		return nil, failure.Errorf(failure.Refused, "nothing to patch: %q and %q are the same tree, %s", m.Old, m.New, m.new.digest)
	}
	allowed, err := glob.ParseSet(m.Include)
	if err != nil {
		return nil, failure.As(failure.Usage, err)
	}
	return changes, refusePrivate(m.new.root, changes, allowed)
}

// header is what is known of the patch before it is packed, with its hooks.
func (m *maker) header() (patch.Header, map[string][]byte, error) {
	meta := m.Meta
	orElse(&meta.Product, m.Options.Product.Product)
	orElse(&meta.Product, m.new.product)
	orElse(&meta.ToVersion, m.new.version)
	to := patch.Side{Version: meta.ToVersion, Tree: m.new.digest}
	var from *patch.Side
	if m.old != nil {
		orElse(&meta.FromVersion, m.old.version)
		from = &patch.Side{Version: meta.FromVersion, Tree: m.old.digest}
	}
	h, err := meta.header(from, to, m.Created)
	if err != nil {
		return h, nil, err
	}
	if h.Full && len(m.Options.Product.Managed) > 0 {
		h.Managed, h.Never = fromTop(m.Options.Product.Managed), fromTop(m.Options.Product.Never)
	}
	for _, s := range []*side{m.old, m.new} {
		if s != nil && s.build != nil {
			h.Builds = append(h.Builds, *s.build)
		}
	}
	var files map[string]string
	h.Hooks, files = meta.hookMembers()
	hooks := map[string][]byte{}
	for member, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return h, nil, failure.As(failure.Usage, fmt.Errorf("reading the hook: %w", err))
		}
		if len(b) == 0 || len(b) > patch.MaxHook {
			return h, nil, failure.Errorf(failure.Usage, "hook %q: %d bytes: want 1 to %d", name, len(b), patch.MaxHook)
		}
		hooks[member] = b
	}
	return h, hooks, nil
}

func orElse(s *string, other string) {
	if *s == "" {
		*s = other
	}
}

// pack fills the payload.
func (m *maker) pack(ctx context.Context) (err error) {
	dir, err := m.scratchDir()
	if err != nil {
		return err
	}
	if m.spool, err = os.CreateTemp(dir, "payload-"); err != nil {
		return err
	}
	m.payload = patch.NewPayload(m.spool)
	var total int64
	for _, s := range m.layout.segments {
		total += s.output
	}
	m.Progress.Start(total, "packing")
	defer m.Progress.Done()
	p := &packer{new: m.new.root, level: m.Level, jobs: m.Jobs, done: m.Progress.Add}
	if m.old != nil {
		p.old = m.old.root
	}
	if err := p.pack(ctx, m.layout, m.payload); err != nil {
		return err
	}
	m.layout.noteHoles()
	return nil
}

// stream writes the patch to w.
func (m *maker) stream(w io.Writer, sealed *patch.Sealed, signoffs []signature.SignedDoc) error {
	if _, err := m.spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return sealed.Write(w, signoffs, m.spool)
}

// write signs the patch and writes the file.
func (m *maker) write(out Output, sealed *patch.Sealed) (*Made, error) {
	h := sealed.Header
	made := &Made{Schema: "relkit.patch-made/v1", File: m.Output, Patch: sealed.ID(), ID: h.ID, Product: h.Product,
		From: h.From, To: h.To, Sizes: h.Sizes}
	var signoffs []signature.SignedDoc
	if m.Signer != nil {
		doc, sig, err := signoff(m.Signer, sealed.ID(), m.Role, m.Created, signature.VerdictPass, nil)
		if err != nil {
			return nil, err
		}
		signoffs = append(signoffs, signature.SignedDoc{Name: patch.SignoffName(m.Role, nil), Doc: doc, Sig: sig})
		made.Signed = append(made.Signed, m.Role)
	}
	count := &counter{w: out}
	if err := m.stream(count, sealed, signoffs); err != nil {
		return nil, err
	}
	made.Bytes = count.n
	return made, out.Commit()
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// scratchDir is the folder for temporary files, never inside a tree. It is made
// when it is first needed.
func (m *maker) scratchDir() (string, error) {
	if m.scratch != nil {
		return m.scratch.dir, nil
	}
	dir := m.Scratch
	if dir == "" {
		dir = "."
		if m.Output != "" && m.Output != "-" {
			dir = filepath.Dir(m.Output)
		}
	}
	if within(dir, m.Old, m.New) {
		dir = os.TempDir()
	}
	var err error
	if m.scratch, err = makeScratch(dir); err != nil {
		return "", err
	}
	return m.scratch.dir, nil
}

// close removes the temporary files and closes the trees.
func (m *maker) close() error {
	m.old.close()
	m.new.close()
	if m.spool != nil {
		m.spool.Close()
	}
	if m.scratch == nil {
		return nil
	}
	return m.scratch.close()
}

type silent struct{}

func (silent) Start(int64, string) {}
func (silent) Add(int64)           {}
func (silent) Done()               {}
