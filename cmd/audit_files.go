package cmd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-oci/imprint/audit"
)

func (a *auditRun) write(path string, r audit.Report, write func(io.Writer, audit.Report) error) error {
	var b bytes.Buffer
	if err := write(&b, r); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return a.s.write(path, b.Bytes(), 0o644, true)
}

// keptCertificates are the files of a folder of certificates.
type keptCertificates struct {
	names                   map[string]string // by fingerprint
	written, leaves, ending int
}

// writeCertificates writes each certificate to a file of its own in the folder. What is there already is kept if it is the same
// certificate, and is an error if it is anything else: nobody's file is lost.
func (a *auditRun) writeCertificates(r audit.Report) (keptCertificates, error) {
	dir := a.in.certificates
	k := keptCertificates{names: map[string]string{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return k, &diskError{fmt.Errorf("making the folder %s: %w", dir, cause(err))}
	}
	leaves := map[string]bool{}
	for _, print := range r.Leaves() {
		leaves[print] = true
	}
	for _, c := range r.ByEnd() {
		name := certificateFile(c)
		path := filepath.Join(dir, name)
		written, err := a.writeCertificate(path, c)
		if err != nil {
			return k, err
		}
		k.names[c.Thumbprint] = name
		k.written += one(written)
		if leaves[c.Thumbprint] && c.Leaf() {
			k.leaves++
			k.ending += one(!c.NotAfter.After(r.ListBefore))
		}
	}
	return k, nil
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (a *auditRun) writeCertificate(path string, c *audit.Certificate) (written bool, err error) {
	text := c.PEM()
	info, err := os.Lstat(path)
	if err == nil {
		if info.Mode().IsRegular() && info.Size() > 0 {
			if there, err := a.s.read(path, int64(len(text))+1); err == nil && bytes.Equal(there, text) {
				return false, nil
			}
		}
		if !info.Mode().IsRegular() || info.Size() > 0 {
			return false, usageHint("look at what is there, and name an empty folder if it is yours", "%s exists and is not that certificate", path)
		}
		return true, a.s.write(path, text, 0o644, true) // empty: nothing is lost
	}
	return true, a.s.write(path, text, 0o644, false)
}

// certificateFile names the file of a certificate: what people call it, what tells it apart, what it is for.
func certificateFile(c *audit.Certificate) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, c.CommonName())
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	if name = strings.Trim(name[:min(len(name), 64)], "-"); name == "" {
		name = "certificate"
	}
	return fmt.Sprintf("%s-%s.%s.pem", name, c.Thumbprint[:32], c.Purpose())
}
