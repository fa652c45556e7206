package page

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// axe-core finds what keeps people from using a page. It is fetched where the tests run (.ci/run does: npm pack), and only this one
// is run; IMPRINT_AXE names the file.
const (
	axeFile = "axe-core-4.14.1.tgz"
	axeHash = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)

var axe = sync.OnceValues(func() (string, error) {
	file := os.Getenv("IMPRINT_AXE")
	if file == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		file = filepath.Join(cache, "imprint-tests", axeFile)
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if sum := sha512.Sum512(packed); base64.StdEncoding.EncodeToString(sum[:]) != axeHash {
		return "", errors.New(file + " is another one than " + axeFile)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			return "", err
		}
		if h.Name == "package/axe.min.js" {
			script, err := io.ReadAll(r)
			return string(script), err
		}
	}
})

// accessible fails the test with what axe finds wrong.
func (p *tab) accessible() {
	p.t.Helper()
	script, err := axe()
	if errors.Is(err, os.ErrNotExist) {
		absent(p.t, axeFile)
	}
	p.must(err)
	p.eval(script+"; 1", nil)
	var found struct {
		Passes     int
		Violations []struct {
			ID, Help string
			Nodes    []struct{ HTML, FailureSummary string }
		}
	}
	p.eval(`axe.run(document, {resultTypes: ["violations"]}).then(r => ({Passes: r.passes.length, Violations: r.violations.map(v =>
		({ID: v.id, Help: v.help, Nodes: v.nodes.slice(0, 5).map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))}))}))`, &found)
	if found.Passes < 20 {
		p.t.Errorf("axe looked at %d rules only", found.Passes)
	}
	for _, v := range found.Violations {
		p.t.Errorf("axe: %s: %s", v.ID, v.Help)
		for _, n := range v.Nodes {
			p.t.Logf("  %.300s\n  %s", n.HTML, n.FailureSummary)
		}
	}
}
