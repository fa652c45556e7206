package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/imprint-oci/imprint/trust/revocation"
)

// cacheName is the file that keeps the list of an address.
func (s *Sources) cacheName(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(s.Cache, hex.EncodeToString(sum[:])+".crl")
}

// cached returns the list of an address that was kept, and when it was. Nothing of it is believed for having been there: who signed it
// is asked again. The cache is a convenience: what is wrong with it is a warning.
func (s *Sources) cached(address string) (*revocation.List, time.Time) {
	if s.Cache == "" {
		return nil, time.Time{}
	}
	b, info, err := readRegular(s.cacheName(address), revocation.MaxListBytes)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.unkept(err)
		}
		return nil, time.Time{}
	}
	l, err := revocation.ParseList(shownAddress(address), b)
	if err != nil {
		return nil, time.Time{} // it is written anew
	}
	return l, info.ModTime()
}

// keep writes a list whole or not at all: to a file of its own in the same folder first, since no rename crosses devices
// (CVE-2024-51491).
func (s *Sources) keep(address string, l *revocation.List) {
	if s.Cache == "" {
		return
	}
	if err := s.write(s.cacheName(address), l.Bytes()); err != nil {
		s.unkept(err)
	}
}

func (s *Sources) write(name string, b []byte) (err error) {
	if err := os.MkdirAll(s.Cache, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Cache, ".crl-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (s *Sources) unkept(err error) {
	s.warn("revocation-cache", fmt.Sprintf("revocation lists are fetched anew each time: the cache %s: %v", s.Cache, bare(err)))
}
