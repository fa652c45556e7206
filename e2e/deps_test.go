package e2e

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const module = "github.com/imprint-oci/imprint"

// rooms are the packages of the house and what each may import besides the standard library.
// Names without a dot in their first segment are this module's. Tests are exempt.
var rooms = map[string][]string{
	"kms":          {},
	"kms/awskms":   {"kms", "github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go"},
	"kms/azurekms": {"kms", "github.com/Azure/azure-sdk-for-go/sdk"},
	"kms/gcpkms": {"kms", "cloud.google.com/go/kms", "github.com/googleapis/gax-go/v2", "google.golang.org/api",
		"google.golang.org/genproto", "google.golang.org/grpc", "google.golang.org/protobuf"},
	"kms/keyfile":         {"kms", "github.com/youmark/pkcs8"},
	"kms/notationplugin":  {"kms"},
	"kms/pkcs11":          {"kms", "kms/pkcs11/cryptoki"},
	"kms/pkcs11/cryptoki": {"github.com/ebitengine/purego"},
	"kms/pkcs11/plugin":   {"kms", "kms/pkcs11", "certchain"},
	"kms/vault":           {"kms", "github.com/openbao/openbao/api/v2"},
	"kms/kmstest":         {"kms"},
	"certchain":           {},
	"certchain/certtest":  {},
	"fetch":               {},
	"envelope": {"kms", "certchain", "github.com/veraison/go-cose", "github.com/fxamacker/cbor/v2",
		"github.com/notaryproject/tspclient-go", "github.com/notaryproject/notation-core-go/x509", "github.com/opencontainers/go-digest"},
	"registry": {"oras.land/oras-go/v2", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest", "golang.org/x/sys",
		"golang.org/x/time/rate"},
	"signer": {"kms", "certchain", "envelope", "registry", "github.com/notaryproject/tspclient-go", "github.com/notaryproject/notation-core-go/revocation",
		"github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"trust": {"certchain", "envelope", "registry", "go.yaml.in/yaml/v4", "github.com/opencontainers/image-spec",
		"github.com/opencontainers/go-digest", "github.com/notaryproject/tspclient-go", "github.com/notaryproject/notation-core-go/revocation",
		"trust/revocation"},
	"trust/revocation": {"golang.org/x/crypto/ocsp"},
	"trust/foreign":    {"trust", "certchain", "registry", "go.yaml.in/yaml/v4"},
	"copy":             {"certchain", "envelope", "registry", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"audit":            {"certchain", "envelope", "registry", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"cmd/ui": {"certchain", "envelope", "registry", "signer", "trust", "trust/foreign", "copy", "audit", "charm.land/lipgloss/v2",
		"github.com/charmbracelet/colorprofile", "github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest"},
	"cmd": {"kms", "kms/awskms", "kms/azurekms", "kms/gcpkms", "kms/keyfile", "kms/notationplugin", "kms/vault", "certchain", "fetch", "envelope", "registry", "signer", "trust", "trust/foreign", "copy", "audit", "cmd/ui",
		"github.com/spf13/cobra", "github.com/spf13/pflag", "go.yaml.in/yaml/v4", "github.com/charmbracelet/colorprofile",
		"github.com/opencontainers/image-spec", "github.com/opencontainers/go-digest", "golang.org/x/term", "golang.org/x/sys"},
	"cmd/imprint":         {"cmd"},
	"cmd/notation-pkcs11": {"kms/pkcs11/plugin", "golang.org/x/sys"},
	"docs/gen":            {"kms", "certchain", "fetch", "envelope", "registry", "signer", "trust", "trust/foreign", "copy", "audit", "cmd", "github.com/spf13/cobra", "github.com/spf13/pflag"},
}

// testRooms may import anything; the product imports none of them.
var testRooms = []string{"kms/kmstest/azuretest", "kms/kmstest/awstest", "e2e", "e2e/judge", "e2e/demo", "e2e/fixture", "e2e/bench", "e2e/page", "registry/regtest", "envelope/tsatest", "trust/revtest", "docs", "e2e/keys"}

// foreign must never be linked into imprint.
var foreign = []string{
	"github.com/distribution/distribution", "cuelabs.dev/go/oci/ociregistry", "github.com/notaryproject/notation-go",
	"github.com/notaryproject/notation-core-go/signature", "github.com/rogpeppe/go-internal", "github.com/google/go-cmp", "testing",
	module + "/e2e", module + "/registry/regtest", module + "/certchain/certtest", module + "/envelope/tsatest", module + "/trust/revtest", module + "/kms/kmstest",
}

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	c := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Standard,Imports"}, args...)...)
	c.Dir = ".."
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// within reports whether path is the package or a package below it.
func within(path, pkg string) bool { return path == pkg || strings.HasPrefix(path, pkg+"/") }

func TestFenceImports(t *testing.T) {
	t.Parallel()
	packages := list(t, "./...")
	standard := map[string]bool{}
	for _, p := range packages {
		standard[p.ImportPath] = p.Standard
	}
	seen := 0
	for _, p := range packages {
		room, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours || slices.Contains(testRooms, room) || strings.HasPrefix(room, "kms/kmstest/") {
			continue
		}
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is in no room: give it a line here, or another place", room)
			continue
		}
		seen++
		for _, imported := range p.Imports {
			if standard[imported] {
				continue
			}
			if !slices.ContainsFunc(allowed, func(a string) bool {
				if first, _, _ := strings.Cut(a, "/"); strings.Contains(first, ".") {
					return within(imported, a)
				}
				return imported == module+"/"+a
			}) {
				t.Errorf("%s imports %s, which its room may not", room, imported)
			}
		}
	}
	if seen < 10 {
		t.Errorf("saw %d rooms only", seen)
	}
}

func TestFenceProduct(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./cmd/imprint") {
		for _, f := range foreign {
			if within(p.ImportPath, f) {
				t.Errorf("imprint links %s", p.ImportPath)
			}
		}
	}
}

// TestSize: the static binary has at most 30 MB, with every key service in it, and needs no library.
func TestSize(t *testing.T) {
	t.Parallel()
	file := built(t, "imprint")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > 30e6 {
		t.Errorf("imprint has %d bytes, want at most 30 MB", info.Size())
	}
	f, err := elf.Open(file)
	if err != nil {
		t.Skip("no ELF: ", err)
	}
	defer f.Close()
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 || f.Section(".interp") != nil {
		t.Errorf("imprint is linked dynamically: %v, %v", libraries, err)
	}
}

// TestStart: three times the 25 ms of an idle machine, at the best of twenty starts.
func TestStart(t *testing.T) {
	file := built(t, "imprint")
	best := time.Hour
	for range 20 {
		begun := time.Now()
		if out, err := exec.Command(file, "version").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		best = min(best, time.Since(begun))
	}
	t.Logf("imprint version: %s", best)
	if best > 75*time.Millisecond {
		t.Errorf("imprint version takes %s at best", best)
	}
}

// built builds the product by its Makefile and returns the path of one of its executables.
func built(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command("make", "-s", "build", "DIST="+dir)
	c.Dir = ".."
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	return filepath.Join(dir, name)
}
