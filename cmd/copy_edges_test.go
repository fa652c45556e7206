package cmd

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/registry"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// TestMaxRateReachesTheClient: --max-rate bounds what the registry client moves.
func TestMaxRateReachesTheClient(t *testing.T) {
	t.Parallel()
	s := newSession(newWorld(t).env)
	c := newCopy(s)
	if err := c.Flags().Set("max-rate", "5MiB"); err != nil {
		t.Fatal(err)
	}
	if got := s.network.options(s).MaxRate; got != 5<<20 {
		t.Errorf("%d bytes a second", got)
	}
}

// TestCopyDryRunMakesNothing: no layout, no archive.
func TestCopyDryRunMakesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	from := "oci:" + w.path("lay") + ":1.0"
	for _, to := range []string{"oci:" + w.path("new/layout"), "oci-archive:" + w.path("new.tar")} {
		w.want(0, "copy", from, to, "--dry-run")
	}
	for _, name := range []string{"new", "new.tar"} {
		if _, err := os.Lstat(w.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.want(3, "copy", from, "oci:"+w.path("new")+"@"+w.image("lay", "one").String()); !strings.Contains(got.err, "the source says which digest is copied") {
		t.Error(got.err)
	}
}

// TestCopyArchiveThatCannotBeWritten: what was copied is nowhere if its archive cannot be put in place, and the run has failed.
func TestCopyArchiveThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, batch := range []bool{false, true} {
		w := newWorld(t)
		s := regtest.New(t, regtest.WithAPI)
		ref := w.filled(s, map[string]string{"app": "1"})[0]
		dir := w.mkdir("gone")
		s.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/blobs/") {
				os.RemoveAll(dir)
			}
			return false
		})
		words := []string{ref, "oci-archive:" + filepath.Join(dir, "out.tar")}
		if batch {
			words = []string{"--batch", w.file("list", strings.Join(words, " ")+"\n")}
		}
		w.want(8, append([]string{"copy"}, words...)...)
	}
}

// TestRequireSignatureBesidesAPolicy: a scope that only reports lets pass what --require-signature does not.
func TestRequireSignatureBesidesAPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "unsigned", "1.0")
	w.keys()
	args := []string{"copy", "oci:" + w.path("lay") + ":1.0", "oci:" + w.path("to"), "--as", "reg.example/app",
		"--policy", w.policy("p.yaml", `reg.example: {trust: [org], enforce: false}`)}
	w.want(1, append(args, "--require-signature")...)
	w.want(0, args...)
}

// TestCopyQualifiedClaims: a signature that claims the destination by its full name covers the tag there.
func TestCopyQualifiedClaims(t *testing.T) {
	t.Parallel()
	w, lay := signedLayout(t)
	s := regtest.New(t, regtest.WithAPI)
	w.image("lay", "qualified", "q")
	w.want(0, w.sign(lay+":q", "--claim-name", s.Host+"/to:2.0")...)
	if got := w.want(0, "copy", lay+":q", s.Host+"/to", "--tag", "2.0"); strings.Contains(got.err, "no signature claims") {
		t.Error(got.err)
	}
	if got := w.want(0, "copy", lay+":q", s.Host+"/to", "--tag", "3.0"); !strings.Contains(got.err, "no signature claims the tag 3.0") {
		t.Error(got.err)
	}
}

// TestPublishIsPartlyDone: copied and signed, and the tag was refused.
func TestPublishIsPartlyDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	w.keys()
	s := regtest.New(t, regtest.WithAPI)
	s.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/manifests/1.0") && !strings.Contains(r.URL.RawQuery, "tag=") {
			return false
		}
		rw.WriteHeader(http.StatusForbidden)
		return true
	})
	args := w.sign("oci:"+w.path("lay")+":1.0", s.Host+"/app")
	args[0] = "publish"
	if got := w.want(7, args...); !strings.Contains(got.err, "no tag has moved: running it again is safe") {
		t.Error(got.err)
	}
	s.Intercept(nil)
	w.want(0, args...)
}

// TestCopyDigestTags: cosign's tags stay behind unless they are asked for.
func TestCopyDigestTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	signed := w.image("lay", "one", "1.0")
	tag := "sha256-" + signed.Encoded() + ".sig"
	own := w.image("lay", "cosign's", tag)
	from, to := "oci:"+w.path("lay")+":1.0", "oci:"+w.path("to")
	w.want(0, "copy", from, to)
	if got := tagsOf(t, to); len(got) != 1 {
		t.Errorf("not asked for: %v", got)
	}
	w.want(0, "copy", from, to, "--digest-tags")
	if got := tagsOf(t, to); len(got) != 2 || got[tag] != string(own) {
		t.Errorf("asked for: %v", got)
	}
}

// TestAppendWaitIsInterrupted: who waits for another process to end the archive it adds to can be interrupted.
func TestAppendWaitIsInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.image("lay", "one", "1.0")
	archive := "oci-archive:" + w.path("out.tar")
	w.want(0, "copy", "oci:"+w.path("lay")+":1.0", archive)
	ref, err := registry.ParseReference(archive)
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.NewClient(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := client.Create(t.Context(), ref, registry.CreateOptions{Append: true})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(interruption{syscall.SIGINT}) })
	ended := make(chan told, 1)
	go func() { ended <- w.runContext(ctx, "copy", "oci:"+w.path("lay")+":1.0", archive+":2.0", "--append") }()
	select {
	case got := <-ended:
		if got.code != exitSignal+int(syscall.SIGINT) {
			t.Errorf("exit code %d: %s", got.code, got.err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it still waits")
	}
}
