package cmd

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-oci/imprint/certchain"
)

// maxChainFiles limits the files of one folder of certificates.
const maxChainFiles = 1000

// certificates reads all certificates of the files, in any order and format.
func (s *session) certificates(files []string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, file := range files {
		b, err := s.read(file, certchain.MaxBytes)
		if err != nil {
			return nil, err
		}
		certs, err := certchain.Parse(b)
		if err != nil {
			return nil, &handedIn{fmt.Errorf("reading certificates from %s: %w", file, err)}
		}
		out = append(out, certs...)
	}
	return out, nil
}

// certificateFiles replaces each folder among paths by the certificate files in it.
func (s *session) certificateFiles(paths []string) ([]string, error) {
	var out []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		if !info.IsDir() {
			out = append(out, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		found := 0
		for _, e := range entries {
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".pem", ".crt", ".cer", ".der", ".p7b", ".p7c":
			default:
				continue
			}
			if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if found++; found > maxChainFiles {
				return nil, usage("%s holds more than %d certificate files", path, maxChainFiles)
			}
			out = append(out, filepath.Join(path, e.Name()))
		}
		if found == 0 {
			return nil, usage("%s holds no certificate file (.pem, .crt, .cer, .der, .p7b)", path)
		}
	}
	return out, nil
}

// signingFiles returns the files of --chain, else those that belong to the key named in the configuration; none is no error.
func (s *session) signingFiles(files []string, key string) []string {
	if s.rank("chain") < fromEnvironment && isKeyName(key) {
		if named, err := s.namedKey(key); err == nil && len(named.chain) > 0 {
			return named.chain
		}
	}
	return files
}

// chain returns the signing chain of [session.signingFiles], put in order.
func (s *session) chain(files []string, key string) (certchain.Chain, error) {
	files = s.signingFiles(files, key)
	if len(files) == 0 {
		return nil, usageHint("name the certificates, leaf to root: --chain chain.pem; a certificate for testing: imprint key generate --dev",
			"no certificate chain to sign with")
	}
	certs, err := s.certificates(files)
	if err != nil {
		return nil, err
	}
	chain, err := certchain.Order(certs)
	if err != nil {
		return nil, &handedIn{fmt.Errorf("putting %s in order: %w", strings.Join(files, ", "), err)}
	}
	return chain, nil
}
