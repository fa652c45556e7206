package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imprint-oci/imprint/registry"
)

// maxDelegationArchive limits an archive that holds a delegation document and its signatures.
const maxDelegationArchive = 2 * MaxDelegation

// document reads a delegation document with its signatures out of an OCI layout or archive that holds nothing else. The policy's
// digest covers it: the archive's bytes, or the index of the layout, which names the rest by digest.
func (d *folder) document(name string) (*servedDocument, error) {
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	ctx := context.Background() // of files
	var repo *registry.Repo
	var index []byte
	if info.IsDir() {
		repo, index, err = d.layout(ctx, name)
	} else {
		repo, err = d.archive(ctx, name, f)
	}
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	m, err := repo.Only(ctx)
	if err != nil {
		return nil, err
	}
	// What the digest covers of a layout names the document, also where somebody exchanges files just then.
	if info.IsDir() && !bytes.Contains(index, []byte(m.Descriptor.Digest)) {
		return nil, errChanged
	}
	served, err := serveDocument(ctx, repo, m)
	if err != nil {
		return nil, err
	}
	for _, s := range served.signatures {
		if s.Err != nil {
			if _, bad := malformed(s.Err); !bad {
				return nil, fmt.Errorf("its signature %s: %w", s.Descriptor.Digest, s.Err)
			}
		}
	}
	body, err := served.body(ctx)
	if err != nil {
		return nil, err
	}
	served.body = func(context.Context) ([]byte, error) { return body, nil }
	return served, nil
}

var errChanged = errors.New("it was changed while it was read")

func (d *folder) layout(ctx context.Context, name string) (repo *registry.Repo, index []byte, err error) {
	// Which also says that the folder does not lead out of the policy's, and that not everybody may write its index.
	if index, err = d.file(filepath.ToSlash(filepath.Join(name, "index.json")), registry.MaxManifest); err != nil {
		return nil, nil, fmt.Errorf("index.json: %w", err)
	}
	repo, err = d.repository(ctx, registry.Layout, name)
	return repo, index, err
}

func (d *folder) archive(ctx context.Context, name string, f *os.File) (*registry.Repo, error) {
	before, err := readChecked(f, maxDelegationArchive)
	if err != nil {
		return nil, err
	}
	repo, err := d.repository(ctx, registry.Archive, name)
	if err != nil {
		return nil, err
	}
	// The digest is of what was opened, also where somebody exchanges the file just then.
	if after, err := d.whole(name); err != nil || !bytes.Equal(after, before) {
		return nil, errors.Join(errChanged, err, repo.Close())
	}
	d.read = append(d.read, named{name, before})
	return repo, nil
}

// whole reads an archive.
func (d *folder) whole(name string) ([]byte, error) {
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readChecked(f, maxDelegationArchive)
}

func (d *folder) repository(ctx context.Context, kind registry.Kind, name string) (*registry.Repo, error) {
	client, err := registry.NewClient(registry.Options{})
	if err != nil {
		return nil, err
	}
	return client.Open(ctx, registry.Reference{Kind: kind, Path: d.below(name)})
}

// below is the path of a file that the policy names.
func (d *folder) below(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.path, filepath.FromSlash(name))
}
