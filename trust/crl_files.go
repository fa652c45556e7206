package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/trust/revocation"
)

const (
	maxListFiles = 1000      // in a folder
	maxListsRead = 256 << 20 // bytes of all lists of a policy, or of a run
)

// Lists are revocation lists that were given for one run. What they cover is enforced, whatever the policy asks for.
type Lists struct{ lists []*revocation.List }

// and returns the lists of both; nil if there are none.
func (l *Lists) and(more *Lists) *Lists {
	switch {
	case more == nil:
		return l
	case l == nil:
		return more
	}
	return &Lists{append(slices.Clip(l.lists), more.lists...)}
}

func (l *Lists) all() []*revocation.List {
	if l == nil {
		return nil
	}
	return l.lists
}

// ReadLists reads revocation lists (DER, or PEM with one or more) from files, and from all files of folders but hidden ones. Errors are
// *LoadError.
func ReadLists(names []string) (*Lists, error) {
	var out Lists
	files := &folder{path: "."}
	defer files.close()
	for _, name := range names {
		// Where a person says so on a command line, ".." and symlinks may lead anywhere.
		at, err := filepath.Abs(name)
		if err != nil {
			return nil, &LoadError{File: name, Code: codeListUnreadable, Err: err}
		}
		lists, err := files.listsAs(at, name)
		if err != nil {
			return nil, &LoadError{Code: codeOf(err, codeListInvalid), Err: err}
		}
		out.lists = append(out.lists, lists...)
	}
	sortLists(out.lists)
	return &out, nil
}

// lists reads the lists of a file, or of a folder's files.
func (d *folder) lists(name string) ([]*revocation.List, error) { return d.listsAs(name, name) }

// listsAs is lists, for a name that is shown as another.
func (d *folder) listsAs(name, shown string) ([]*revocation.List, error) {
	unreadable := func(err error) error {
		return &fileError{codeOf(err, codeListUnreadable), fmt.Errorf("reading revocation list %s: %w", shown, err)}
	}
	f, err := d.open(name)
	if err != nil {
		return nil, unreadable(err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, unreadable(bare(err))
	}
	if !info.IsDir() {
		_ = f.Close()
		return d.listsIn(name, shown)
	}
	entries, err := f.ReadDir(maxListFiles + 1)
	_ = f.Close()
	var hidden int
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		if strings.HasPrefix(e.Name(), ".") { // as a ConfigMap's ..data
			hidden++
			return true
		}
		return false
	})
	switch {
	case len(entries)+hidden > maxListFiles:
		return nil, &fileError{codeTooLarge, fmt.Errorf("folder %s has more than %d files", shown, maxListFiles)}
	case len(entries) == 0 && err != nil && !errors.Is(err, io.EOF):
		return nil, unreadable(bare(err))
	case len(entries) == 0:
		return nil, &fileError{codeListInvalid, fmt.Errorf("folder %s holds no revocation list", shown)}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	var out []*revocation.List
	for _, e := range entries {
		// The names of a policy have slashes on every system.
		lists, err := d.listsIn(strings.TrimSuffix(name, "/")+"/"+e.Name(), strings.TrimSuffix(shown, "/")+"/"+e.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, lists...)
	}
	return out, nil
}

func (d *folder) listsIn(name, shown string) ([]*revocation.List, error) {
	b, err := d.file(name, revocation.MaxListBytes)
	if err != nil {
		return nil, &fileError{codeOf(err, codeListUnreadable), fmt.Errorf("reading revocation list %s: %w", shown, err)}
	}
	var total int
	for _, seen := range d.read {
		total += len(seen.bytes)
	}
	if total > maxListsRead {
		return nil, &fileError{codeTooLarge, fmt.Errorf("with %s the revocation lists take more than %d bytes", shown, maxListsRead)}
	}
	lists, err := revocation.ParseLists(shown, b)
	if err != nil {
		return nil, &fileError{codeListInvalid, fmt.Errorf("revocation list %s: %w", shown, err)}
	}
	return lists, nil
}

// sortLists puts lists in an order that does not depend on the one in which they were named.
func sortLists(lists []*revocation.List) {
	slices.SortStableFunc(lists, func(a, b *revocation.List) int { return strings.Compare(a.Name(), b.Name()) })
}

// Check judges a chain by these lists alone: a certificate that is revoked, or covered by a list of no use, is an error (reason revoked,
// or revocation-unknown).
func (l *Lists) Check(chain certchain.Chain, now time.Time) error {
	c := court{policy: &Policy{narrow: narrowing{lists: l}}, now: now}
	if _, code, detail, _ := c.revocation(nil, chain, false, time.Time{}); code != "" {
		return &revokedError{code, detail}
	}
	return nil
}

// ErrRevoked: a certificate is revoked (reason revoked), or whether it is could not be determined (revocation-unknown).
var ErrRevoked = errors.New("revocation")

type revokedError struct{ code, detail string }

func (e *revokedError) Error() string        { return e.detail }
func (e *revokedError) Is(target error) bool { return target == ErrRevoked }
func (e *revokedError) Reason() string       { return e.code }

// readSmall reads a regular file of a folder of one's own, never through a FIFO that blocks.
func readRegular(name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	b, err := readChecked(f, limit)
	return b, info, err
}
