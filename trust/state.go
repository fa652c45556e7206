package trust

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	maxState   = 16 << 20
	maxSeen    = 50_000
	lockWithin = 30 * time.Second
)

// A seenDocument is the newest delegation document that was believed, by a certificate of the root that it is judged by and the
// policy's scope that asks for it.
type seenDocument struct {
	Root    string        `json:"root"` // SHA-256 of the certificate
	Scope   string        `json:"scope"`
	Version uint64        `json:"version"`
	Digest  digest.Digest `json:"digest"` // of the document, whatever manifest brought it
}

// A stateError is why the memory of documents does not let one pass.
type stateError struct {
	code string
	err  error
	down bool // the memory could not be read or written: nothing is known, and nothing may be believed
}

func (e *stateError) Error() string { return e.err.Error() }
func (e *stateError) Unwrap() error { return e.err }

// remember checks a document that was verified against those seen before, and takes it down (D8). Every certificate of the root has an
// entry of its own, so that a policy whose root gains or loses one forgets nothing. What cannot be taken down is not believed: the
// next run could be shown an older one.
func remember(ctx context.Context, file string, roots []string, scope string, version uint64, d digest.Digest) error {
	known, err := readState(file)
	if err != nil {
		return err
	}
	_, news, err := weigh(known, roots, scope, version, d)
	if err != nil || !news {
		return err
	}
	unlock, err := lockState(ctx, file)
	if err != nil {
		return stateDown(file, "locking", err)
	}
	defer unlock()
	// Somebody may have taken down more meanwhile.
	if known, err = readState(file); err != nil {
		return err
	}
	known, news, err = weigh(known, roots, scope, version, d)
	if err != nil || !news {
		return err
	}
	if err := writeState(file, known); err != nil {
		return stateDown(file, "writing", err)
	}
	return nil
}

func stateDown(file, doing string, err error) error {
	return &stateError{codeDelegationState, fmt.Errorf("%s the delegations seen before, %s: %w", doing, file, bare(err)), true}
}

func stateBroken(file string, err error) error {
	return &stateError{code: codeDelegationState, err: fmt.Errorf("the delegations seen before, %s, cannot be trusted: %w; "+
		"it is never begun anew by itself: restore it, or find out who changed it before it is removed", file, err)}
}

// weigh returns what is known with the document, and whether that is more than was known.
func weigh(known []seenDocument, roots []string, scope string, version uint64, d digest.Digest) (all []seenDocument, news bool, err error) {
	all = slices.Clone(known)
	for _, root := range roots {
		i := slices.IndexFunc(all, func(s seenDocument) bool { return s.Root == root && s.Scope == scope })
		switch {
		case i < 0:
			all, news = append(all, seenDocument{root, scope, version, d}), true
		case all[i].Version > version:
			return nil, false, &stateError{code: codeDelegationRollback, err: fmt.Errorf(
				"the document is of version %d; version %d was seen before", version, all[i].Version)}
		case all[i].Version < version:
			all[i].Version, all[i].Digest, news = version, d, true
		case all[i].Digest != d:
			return nil, false, &stateError{code: codeDelegationEquivocation, err: fmt.Errorf(
				"the document is of version %d, and not the one of that version that was seen before, %s", version, all[i].Digest)}
		}
	}
	return all, news, nil
}

// CheckDelegations says what is wrong with a file of delegation documents that were seen ([Sources].State), which [Policy.Examine]
// would refuse to go by. One that is not there yet is fine. Reason delegation-state.
func CheckDelegations(file string) error {
	_, err := readState(file)
	return err
}

// readState reads the file strictly. One that is not there holds nothing; one that is and cannot be understood is an error for ever.
func readState(file string) ([]seenDocument, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, stateDown(file, "reading", err)
	}
	defer f.Close()
	b, err := readChecked(f, maxState)
	var unfit *fileError
	switch {
	case errors.As(err, &unfit):
		return nil, stateBroken(file, err)
	case err != nil:
		return nil, stateDown(file, "reading", err)
	}
	known, err := parseState(b)
	if err != nil {
		return nil, stateBroken(file, err)
	}
	return known, nil
}

func parseState(b []byte) ([]seenDocument, error) {
	if !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	r := &delegationReader{d: json.NewDecoder(bytes.NewReader(b))}
	r.d.UseNumber()
	var known []seenDocument
	var format uint64
	err := r.object("the file", nil, map[string]func() error{
		"version": func() (err error) { format, err = r.count("version"); return err },
		"documents": func() error {
			return r.list("documents", maxSeen, func() error {
				s, err := r.seen()
				known = append(known, s)
				return err
			})
		},
	})
	if err == nil && format != 1 {
		err = fmt.Errorf("it is of version %d, and this imprint knows version 1", format)
	}
	if err != nil {
		return nil, err
	}
	once := make(map[string]bool, len(known))
	for _, s := range known {
		key := s.Root + " " + s.Scope
		if once[key] {
			return nil, fmt.Errorf("scope %s stands twice for root %s", s.Scope, s.Root)
		}
		once[key] = true
	}
	return known, nil
}

func (r *delegationReader) seen() (s seenDocument, err error) {
	err = r.object("a document", nil, map[string]func() error{
		"root":    func() (err error) { s.Root, err = r.text("root"); return err },
		"scope":   func() (err error) { s.Scope, err = r.scope("scope"); return err },
		"version": func() (err error) { s.Version, err = r.count("version"); return err },
		"digest": func() error {
			text, err := r.text("digest")
			s.Digest = digest.Digest(text)
			if err == nil {
				err = s.Digest.Validate()
			}
			return err
		},
	})
	if err == nil && digest.NewDigestFromEncoded(digest.SHA256, s.Root).Validate() != nil {
		err = fmt.Errorf("root %q is no SHA-256", shorten(s.Root))
	}
	if err == nil && s.Version == 0 {
		err = errors.New("a document of version 0")
	}
	return s, err
}

// writeState puts the file in place whole or not at all, and on the disk. The lock is held.
func writeState(file string, known []seenDocument) error {
	slices.SortFunc(known, func(a, b seenDocument) int {
		return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Root, b.Root))
	})
	if len(known) > maxSeen {
		return fmt.Errorf("more than %d documents", maxSeen)
	}
	b, err := json.MarshalIndent(struct {
		Version   int            `json:"version"`
		Documents []seenDocument `json:"documents"`
	}{1, known}, "", "  ")
	if err != nil {
		return err
	}
	temp := file + ".new" // of a run that was killed, perhaps: who has the lock is alone
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp, file)
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	return syncFolder(filepath.Dir(file))
}

// lockState takes the turn to write among processes. The lock is a file of its own, since the other one is exchanged.
func lockState(ctx context.Context, file string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockWithin, errors.New("another run holds its lock"))
	defer cancel()
	for {
		unlock, err := tryLock(file + ".lock")
		if unlock != nil || err != nil {
			return unlock, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
