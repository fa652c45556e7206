package cmd

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/audit"
	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

func TestPrefixOf(t *testing.T) {
	t.Parallel()
	type split struct {
		Host, Prefix string
		OK           bool
	}
	for text, want := range map[string]split{
		"harbor.example":              {"harbor.example", "", true},
		"harbor.example/":             {"harbor.example", "", true},
		"localhost:5000":              {"localhost:5000", "", true},
		"harbor.example/team/":        {"harbor.example", "team", true},
		"harbor.example/team/sub/":    {"harbor.example", "team/sub", true},
		"harbor.example/team":         {},
		"harbor.example/team:1":       {},
		"harbor.example/team//":       {},
		"harbor.example/../":          {},
		"harbor.example/Team/":        {},
		"harbor.example/team/@sha256": {},
		"app":                         {},
		"app:1.0":                     {},
		"team/":                       {},
		"":                            {},
		"/":                           {},
		"oci:dir/":                    {},
		"oci-archive:a.tar":           {},
	} {
		host, prefix, ok := prefixOf(text)
		if diff := cmp.Diff(want, split{host, prefix, ok}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// A certificate's name is whatever whoever made it liked; a file's is not.
func TestCertificateFileNames(t *testing.T) {
	t.Parallel()
	key := certtest.Key("P-256")
	for cn, want := range map[string]string{
		"release 2026":                   "release-2026",
		"../../etc/passwd":               "etc-passwd",
		"":                               "certificate",
		"-rf":                            "rf",
		"a\x00b\nc\x1b[2J":               "a-b-c-2J",
		"..":                             "certificate",
		"ümlaut":                         "mlaut",
		strings.Repeat("long ", 12) + "": strings.TrimSuffix(strings.Repeat("long-", 12), "-"),
	} {
		r := audited(t, certtest.SelfSigned(key, cn))
		name := certificateFile(r)
		begin, rest, ok := strings.Cut(name, "-"+r.Thumbprint[:32])
		if !ok || begin != want || rest != ".ca.pem" || filepath.Base(name) != name || len(name) > 120 {
			t.Errorf("%q: %s, want %s-…", cn, name, want)
		}
	}
}

func audited(t *testing.T, cert *x509.Certificate) *audit.Certificate {
	t.Helper()
	c := audit.Describe(cert)
	return &c
}

func runAudits(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk strings.Builder
	code = Run(ctx, append([]string{"audit"}, args...), Env{
		In: strings.NewReader(""), Out: &out, Err: &talk, Environ: []string{"HOME=" + t.TempDir()}, Now: time.Now,
	})
	return code, out.String(), talk.String()
}

// Half an audit is none: what a signal interrupts replaces no file.
func TestAuditInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	s := regtest.New(t, regtest.WithAPI)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/tags/list") {
			return false
		}
		cancel(interruption{syscall.SIGTERM})
		<-r.Context().Done()
		return true
	})
	dir := t.TempDir()
	metrics := filepath.Join(dir, "m.prom")
	if err := os.WriteFile(metrics, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runAudits(t, ctx, s.Host+"/app", "--metrics", metrics, "--html", filepath.Join(dir, "p.html"), "--certificates", filepath.Join(dir, "certs"))
	if code != exitSignal+int(syscall.SIGTERM) || stdout != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if b, err := os.ReadFile(metrics); err != nil || string(b) != "before\n" {
		t.Errorf("the metrics are %q, %v", b, err)
	}
	for _, name := range []string{"p.html", "certs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
}

// What could not be read is told by the exit code, each by its own if there is nothing else.
func TestAuditOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	code, stdout, stderr := runAudits(t, t.Context(), s.Host+"/a", s.Host+"/b", "-o", "json")
	if code != exitUnauthorized || strings.Count(stderr, "imprint: error:") != 2 || strings.Count(stderr, "imprint: hint:") != 1 {
		t.Errorf("exit %d\n%s", code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var summary struct {
		Kind     string
		ExitCode int
		Unseen   []struct{ Item, Reason string }
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &summary); err != nil {
		t.Fatal(err)
	}
	if summary.Kind != "summary" || summary.ExitCode != code || len(summary.Unseen) != 2 || summary.Unseen[1].Item != s.Host+"/b" {
		t.Errorf("%+v", summary)
	}
	code, _, stderr = runAudits(t, t.Context(), s.Host+"/a", s.Host+"/b", "--fail-fast", "--jobs", "1")
	if code != exitUnauthorized || strings.Count(stderr, "imprint: error:") != 1 {
		t.Errorf("--fail-fast: exit %d\n%s", code, stderr)
	}
	code, _, stderr = runAudits(t, t.Context(), s.Host+"/team/")
	if code != exitUnauthorized {
		t.Errorf("a prefix: exit %d\n%s", code, stderr)
	}
}

// A registry that does not list its repositories is said, with the way round.
func TestAuditWithoutCatalog(t *testing.T) {
	t.Parallel()
	s := regtest.New(t, regtest.WithAPI)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/_catalog" {
			return false
		}
		http.NotFound(w, r)
		return true
	})
	code, stdout, stderr := runAudits(t, t.Context(), s.Host)
	if code != exitUnknown || stdout != "" || !strings.Contains(stderr, "not supported by this registry") || !strings.Contains(stderr, "hint: name the repositories, one a line: imprint audit --batch FILE") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// TestAuditFilesThatCannotBe: what cannot be written in the end is said before anything is read, by its own flag.
func TestAuditFilesThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	lay, folder, page := "oci:"+w.path("lay"), w.mkdir("folder"), w.path("page")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a folder":        {[]string{"--html", folder}, "--html " + folder + ": it is no file"},
		"standard output": {[]string{"--metrics", "-"}, "--metrics -: it is no file"},
		"a device":        {[]string{"--html", os.DevNull}, "--html " + os.DevNull},
		"one for both":    {[]string{"--html", page, "--metrics", filepath.Dir(page) + "/./page"}, "--metrics and --html both name"},
	} {
		got := w.want(3, append([]string{"audit", lay}, c.args...)...)
		if !strings.Contains(got.err, c.want) || strings.Contains(got.err, "--out") || got.out != "" {
			t.Errorf("%s: %s%s", name, got.out, got.err)
		}
	}
	if _, err := os.Stat(page); err == nil {
		t.Error("something was written")
	}
}
