package cmd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// places opens where the items of a copy come from and go to. Layouts and archives are opened once for the run, however
// many items read them or write to them.
type places struct {
	s  *session
	in copyInputs

	mu           sync.Mutex
	sources      map[string]*place
	destinations map[string]*place
}

// A place is a layout or an archive that is open.
type place struct {
	open    sync.Once
	repo    *registry.Repo
	err     error
	release func() error
	done    bool // something was copied to it: it is worth committing
}

// keyOf tells layouts and archives apart, however their paths are written.
func keyOf(ref registry.Reference) string {
	path, err := filepath.Abs(ref.Path)
	if err != nil {
		path = filepath.Clean(ref.Path)
	}
	return registry.Reference{Kind: ref.Kind, Path: path}.String()
}

func (p *places) at(of *map[string]*place, ref registry.Reference) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *of == nil {
		*of = map[string]*place{}
	}
	key := keyOf(ref)
	if (*of)[key] == nil {
		(*of)[key] = &place{}
	}
	return (*of)[key]
}

// source opens where ref is for reading.
func (p *places) source(ctx context.Context, ref registry.Reference) (*registry.Repo, error) {
	if ref.Kind == registry.Remote {
		return p.s.open(ctx, ref)
	}
	at := p.at(&p.sources, ref)
	at.open.Do(func() {
		at.repo, at.err = p.s.open(context.WithoutCancel(ctx), ref.Repository())
		if at.err == nil {
			at.release = at.repo.Close
		}
	})
	return at.repo, at.err
}

// destination opens where ref is for writing.
func (p *places) destination(ctx context.Context, ref registry.Reference) (*registry.Repo, error) {
	if ref.Kind == registry.Remote {
		return p.s.open(ctx, ref)
	}
	at := p.at(&p.destinations, ref)
	at.open.Do(func() {
		// All items end with this context: who waits for another process to end its archive may be interrupted.
		at.repo, at.release, at.err = p.begin(ctx, ref.Repository())
	})
	return at.repo, at.err
}

// begin opens a layout or an archive for writing, and returns how to let go of it. In a dry run an archive that is going
// to be replaced is empty.
func (p *places) begin(ctx context.Context, ref registry.Reference) (*registry.Repo, func() error, error) {
	c, err := p.s.client()
	if err != nil {
		return nil, nil, err
	}
	if !p.in.dryRun {
		undo := func() {}
		if ref.Kind == registry.Layout {
			undo = unmake(ref.Path)
		}
		repo, err := c.Create(ctx, ref, registry.CreateOptions{Overwrite: p.in.overwrite, Append: p.in.appending})
		if err != nil {
			return nil, nil, err
		}
		return repo, func() error { defer undo(); return repo.Close() }, nil
	}
	if ref.Kind == registry.Layout || p.in.appending {
		return rehearsed(ctx, c, ref)
	}
	return emptyLayout(ctx, c)
}

// rehearsed opens what stands for a layout or an archive in a dry run, which leaves no trace: itself, or where there is
// none an empty layout. release lets go of it.
func rehearsed(ctx context.Context, c *registry.Client, ref registry.Reference) (repo *registry.Repo, release func() error, err error) {
	repo, err = c.Open(ctx, ref)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return emptyLayout(ctx, c)
	case err != nil:
		return nil, nil, err
	}
	return repo, repo.Close, nil
}

// emptyLayout makes a layout in a temporary folder, which release takes away.
func emptyLayout(ctx context.Context, c *registry.Client) (repo *registry.Repo, release func() error, err error) {
	dir, err := os.MkdirTemp("", "imprint-dry-run-")
	if err != nil {
		return nil, nil, &diskError{err}
	}
	repo, err = c.Create(ctx, registry.Reference{Kind: registry.Layout, Path: dir}, registry.CreateOptions{})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return repo, func() error { return errors.Join(repo.Close(), os.RemoveAll(dir)) }, nil
}

// unmake returns what takes a layout away again that is about to be made in dir, if nothing came into it: what a gate
// refused leaves no trace.
func unmake(dir string) func() {
	absent := func(name string) bool {
		_, err := os.Lstat(name)
		return errors.Is(err, fs.ErrNotExist)
	}
	if !absent(filepath.Join(dir, ocispec.ImageLayoutFile)) {
		return func() {}
	}
	var made []string
	for d := filepath.Clean(dir); absent(d); d = filepath.Dir(d) {
		made = append(made, d)
	}
	return func() {
		if !absent(filepath.Join(dir, ocispec.ImageBlobsDir)) {
			return
		}
		made = append([]string{filepath.Join(dir, ocispec.ImageIndexFile), filepath.Join(dir, ocispec.ImageLayoutFile)}, made...)
		for _, name := range made {
			if os.Remove(name) != nil { // somebody has put something into the folder
				break
			}
		}
	}
}

// arrived notes that something was copied to ref.
func (p *places) arrived(ref registry.Reference) {
	if ref.Kind == registry.Remote {
		return
	}
	at := p.at(&p.destinations, ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	at.done = true
}

// end lets go of all places. Archives to which something was copied are put in place, unless the run is being
// interrupted: then none is, and what was there before is as it was.
func (p *places) end(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, at := range p.destinations {
		if at.done && !p.in.dryRun && at.err == nil && ctx.Err() == nil {
			errs = append(errs, at.repo.Commit())
		}
	}
	for _, of := range []map[string]*place{p.destinations, p.sources} {
		for _, at := range of {
			if at.release != nil {
				errs = append(errs, at.release())
			}
		}
	}
	p.destinations, p.sources = nil, nil
	return errors.Join(errs...)
}
