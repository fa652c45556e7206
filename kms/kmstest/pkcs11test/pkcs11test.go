// Package pkcs11test makes SoftHSM tokens for tests, and a module around SoftHSM that counts calls and fails as hardware does.
//
// SoftHSM is real: nothing here signs. Without it tests are skipped, but not where CI is set.
package pkcs11test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Token is what a test wants of a token.
type Token struct {
	Label, PIN   string
	Keys         []Key
	Certificates []*x509.Certificate // without an id: issuers
}

// A Key is what a test wants of a key. The zero value of the options is a key pair that signs, without certificates.
type Key struct {
	Label  string
	ID     []byte
	Signer crypto.Signer // *rsa.PrivateKey or *ecdsa.PrivateKey

	Certificates []*x509.Certificate // with the key's id
	NoPublic     bool                // the token has no public key object
	NoPrivate    bool
	NoSign       bool   // CKA_SIGN is false
	Always       bool   // CKA_ALWAYS_AUTHENTICATE
	Params       []byte // CKA_EC_PARAMS instead of the key's
	BarePoint    bool   // CKA_EC_POINT is not wrapped in an OCTET STRING
}

// An Order is what the program provision reads.
type Order struct {
	Module string
	Tokens []TokenOrder
}

// A TokenOrder is a token with the objects in it.
type TokenOrder struct {
	Label, PIN string
	Objects    [][]Attribute
}

// An Attribute is one of an object's.
type Attribute struct {
	Type  uint
	Value []byte
}

// Made is a token as provision made it.
type Made struct {
	Label, Serial string
	Slot          uint
}

// An HSM is SoftHSM with tokens.
type HSM struct {
	Module string   // the library
	Env    []string // the environment with which a process sees the tokens
	Tokens []Made   // in SoftHSM's order

	log    string // of the module around it; "" none
	dir    string
	around sync.Once
	proxy  string // the module around it, built
}

// library returns where SoftHSM is, "" if it is nowhere.
func library() string {
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// New makes tokens, in a folder of SoftHSM's that is theirs alone.
func New(t testing.TB, tokens ...Token) *HSM {
	t.Helper()
	h := &HSM{Module: library()}
	if h.Module == "" {
		absent(t, "SoftHSM is not installed (apt-get install softhsm2)")
	}
	dir, err := os.MkdirTemp("", "softhsm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", filepath.Join(dir, "tokens"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.dir, h.Env = dir, []string{"SOFTHSM2_CONF=" + conf}
	order := Order{Module: h.Module}
	for _, token := range tokens {
		order.Tokens = append(order.Tokens, token.order(t))
	}
	h.provision(t, order)
	return h
}

func absent(t testing.TB, text string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

func (h *HSM) provision(t testing.TB, order Order) {
	t.Helper()
	in, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "run", "github.com/imprint-oci/imprint/kms/kmstest/pkcs11test/provision")
	c.Env = append(append(os.Environ(), "CGO_ENABLED=0"), h.Env...)
	c.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("provision: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &h.Tokens); err != nil {
		t.Fatal(err)
	}
}

// Token returns the first token of that label.
func (h *HSM) Token(label string) Made {
	for _, made := range h.Tokens {
		if made.Label == label {
			return made
		}
	}
	panic("no token " + label)
}

// URI returns a key URI for attributes of RFC 7512, with further query values, each NAME=VALUE.
func (h *HSM) URI(attributes string, query ...string) string {
	escape := func(s string) string {
		return strings.NewReplacer("+", "%20", "%2F", "/", "%3A", ":").Replace(url.QueryEscape(s))
	}
	q := "?module-path=" + escape(h.Module)
	for _, pair := range query {
		name, value, _ := strings.Cut(pair, "=")
		q += "&" + name + "=" + escape(value)
	}
	return "pkcs11:" + attributes + q
}

//go:embed testdata/proxy.c
var proxy []byte

// Around returns the same tokens behind a module that counts calls and has faults, as testdata/proxy.c lists them.
func (h *HSM) Around(t testing.TB, faults ...string) *HSM {
	t.Helper()
	h.around.Do(func() { h.proxy = h.build(t) }) // once: processes take turns by the module's file
	if h.proxy == "" {
		absent(t, "there is no module around SoftHSM")
	}
	f, err := os.CreateTemp(h.dir, "log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	env := append([]string{"PROXY_MODULE=" + h.Module, "PROXY_LOG=" + f.Name(), "PROXY_FAULTS=," + strings.Join(faults, ",") + ","}, h.Env...)
	return &HSM{Module: h.proxy, Env: env, Tokens: h.Tokens, log: f.Name()}
}

func (h *HSM) build(t testing.TB) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		absent(t, "there is no C compiler")
	}
	source, module := filepath.Join(h.dir, "proxy.c"), filepath.Join(h.dir, "proxy.so")
	if err := os.WriteFile(source, proxy, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-Wall", "-Werror", "-o", module, source, "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return module
}

// Calls counts the calls of a function of the module, with what is logged of their arguments: "C_Login 1" is a login of the user's,
// "C_Login 2" one for a single signature.
func (h *HSM) Calls(call string) int {
	b, err := os.ReadFile(h.log)
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if line == call+"\n" || strings.HasPrefix(line, call+" ") {
			n++
		}
	}
	return n
}

// Reset forgets the calls.
func (h *HSM) Reset() { _ = os.Remove(h.log) }
