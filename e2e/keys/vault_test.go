package keys

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/vaulttest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

// newVault makes a desk whose variables lead to a transit engine over plain HTTP.
func newVault(t *testing.T) (*desk, *vaulttest.Server) {
	t.Helper()
	s := vaulttest.New(t)
	return newDesk(t, "VAULT_ADDR="+s.URL, "VAULT_TOKEN="+vaulttest.Root), s
}

// keep has the service keep a chain beside a key's latest version, as `vault write` does.
func keep(t *testing.T, client *http.Client, address, path, file string) {
	t.Helper()
	chain, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"certificate_chain": string(chain)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/v1/"+path+"/set-certificate", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", vaulttest.Root)
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("set-certificate: %s", answer.Status)
	}
}

// The way of a publisher whose key is in a transit engine: a request, a certificate, which the engine keeps beside the key, and
// signatures with nothing but the key's name, which notation accepts.
func TestVault(t *testing.T) {
	t.Parallel()
	for _, algorithm := range certtest.Algorithms {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d, s := newVault(t)
			s.AddKey("release", certtest.Key(algorithm))
			chain := d.certified(t, "hashivault://release")
			if strings.HasPrefix(algorithm, "RSA") {
				d.certified(t, "hashivault://release", "--pkcs1")
			}
			d.signs(t, "hashivault://release?version=1", "1", "--chain", chain)
			keep(t, http.DefaultClient, s.URL, "transit/keys/release", chain)
			d.signs(t, "hashivault://release", "1")

			shown := d.ok(t, "key", "show", "hashivault://release", "-o", "json")
			for field, want := range map[string]string{"service": "Vault", "version": "1", "id": "hashivault://release?mount=transit&version=1", "kept.certificates": "3",
				"kept.complete": "true", "keyCalls": "0"} {
				if got := shown.field(t, field); got != want {
					t.Errorf("key show: %s is %q, want %q", field, got, want)
				}
			}
			for _, seen := range s.Seen() {
				if !strings.HasPrefix(seen.Agent, "imprint/") && seen.Agent != "Go-http-client/1.1" {
					t.Errorf("%s says it is %q", seen.Path, seen.Agent)
				}
			}
		})
	}
}

// OpenBao's variables, TLS, nested mounts, namespaces, and the address that the services print.
func TestVaultAddresses(t *testing.T) {
	t.Parallel()
	s := vaulttest.NewTLS(t)
	key := certtest.Key("P-256")
	for _, mount := range []string{"team/a/transit", "ns1/team/a/transit", "ns1/transit"} {
		s.Mount(mount)
		s.AddKeyAt(mount, "release", key)
	}
	s.AddKey("release", key)
	bao := []string{"BAO_ADDR=" + s.URL, "BAO_TOKEN=" + vaulttest.Root, "BAO_CACERT=" + s.CAFile}
	for name, tt := range map[string]struct {
		env []string
		key string
		id  string
	}{
		"openbao":           {bao, "openbao://release", "openbao://release?mount=transit&version=1"},
		"BAO_ first":        {append([]string{"VAULT_ADDR=http://127.0.0.1:1", "VAULT_TOKEN=x"}, bao...), "hashivault://release", "hashivault://release?mount=transit&version=1"},
		"VAULT_":            {[]string{"VAULT_ADDR=" + s.URL, "VAULT_TOKEN=" + vaulttest.Root, "VAULT_CACERT=" + s.CAFile}, "openbao://release", "openbao://release?mount=transit&version=1"},
		"nested mount":      {bao, "openbao://release?mount=team/a/transit", "openbao://release?mount=team%2Fa%2Ftransit&version=1"},
		"sigstore's mount":  {append([]string{"TRANSIT_SECRET_ENGINE_PATH=team/a/transit"}, bao...), "openbao://release", "openbao://release?mount=team%2Fa%2Ftransit&version=1"},
		"namespace":         {bao, "openbao://release?namespace=ns1", "openbao://release?mount=transit&namespace=ns1&version=1"},
		"namespace by name": {append([]string{"BAO_NAMESPACE=ns1"}, bao...), "openbao://release?mount=team/a/transit", "openbao://release?mount=team%2Fa%2Ftransit&version=1"},
		"printed address": {[]string{"VAULT_TOKEN=" + vaulttest.Root, "VAULT_CACERT=" + s.CAFile}, s.URL + "/v1/team/a/transit/keys/release",
			"hashivault://release?addr=" + strings.NewReplacer(":", "%3A", "/", "%2F").Replace(s.URL) + "&mount=team%2Fa%2Ftransit&version=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, tt.env...)
			if got := d.ok(t, "key", "show", tt.key, "-o", "json").field(t, "id"); got != tt.id {
				t.Errorf("the key's ID is %s, want %s", got, tt.id)
			}
			d.signs(t, tt.key, "1", "--chain", d.chainFor(key.Public(), "release"))
		})
	}
}

// The server under a name, behind a proxy, over HTTP/2.
func TestVaultBehindProxy(t *testing.T) {
	t.Parallel()
	w, s := wiretest.New(t), vaulttest.New(t)
	w.Serve("vault.acme.example", s)
	s.AddKey("release", certtest.Key("P-256"))
	d := newDesk(t, append(w.Environ(), "VAULT_ADDR=https://vault.acme.example:8200", "VAULT_TOKEN="+vaulttest.Root)...)
	d.signs(t, "hashivault://release", "1", "--chain", d.certified(t, "hashivault://release"))
	w.Remove("vault.acme.example")
	d.refused(t, 6, "key-unreachable", []string{"Bad Gateway", "https://vault.acme.example:8200", "check the network, HTTPS_PROXY and"}, "key", "show", "hashivault://release")
}

// A login leaves the token in a file.
func TestVaultLogin(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	key := certtest.Key("P-256")
	s.AddKey("release", key)
	d := newDesk(t, "VAULT_ADDR="+s.URL)
	d.refused(t, 6, "key-credentials", []string{"there is no token for Vault at " + s.URL, "hint: set VAULT_TOKEN or BAO_TOKEN, or run `vault login`"}, "key", "show", "hashivault://release")
	d.refused(t, 6, "key-credentials", []string{"there is no token for OpenBao", "hint: set BAO_TOKEN or VAULT_TOKEN, or run `bao login`"}, "key", "show", "openbao://release")
	d.file("home/.vault-token", []byte(vaulttest.Root))
	d.signs(t, "hashivault://release", "1", "--chain", d.chainFor(key.Public(), "release"))
}

// A token that may sign and not read is enough where the chain tells the public key and the URI the version.
func TestVaultSignOnly(t *testing.T) {
	t.Parallel()
	const token = "hvs.CanarySignOnlyTokenThatMustBeSeenNowhere"
	s := vaulttest.New(t)
	key := certtest.Key("P-384")
	s.AddKey("release", key)
	s.Allow(token, "update", "transit/sign/release")
	d := newDesk(t, "VAULT_ADDR="+s.URL, "VAULT_TOKEN="+token)
	chain := d.chainFor(key.Public(), "release")
	d.signs(t, "hashivault://release?version=1", "1", "--chain", chain)
	for _, more := range [][]string{{"--key", "hashivault://release", "--chain", chain}, {"--key", "hashivault://release?version=1"}} {
		o := d.refused(t, 6, "key-denied", []string{`denies reading transit/keys/release`, `path "transit/keys/release" { capabilities = ["read"] }`},
			append([]string{"sign", d.ref}, more...)...)
		noToken(t, o, token)
	}
	// Another key's chain: the signature that was paid for is not that key's, and is not pushed.
	other := d.chainFor(certtest.Key("P-384").Public(), "other")
	d.refused(t, 6, "key-signature", []string{"no signature of the key that was opened"}, "sign", d.ref, "--key", "hashivault://release?version=1", "--chain", other)
	// A version that is none costs one call.
	before := s.Calls(vaulttest.OpSign)
	o := d.refused(t, 6, "key-unusable", []string{"requested version for signing is higher than the latest key version"}, "sign", d.ref, "--key", "hashivault://release?version=9", "--chain", chain)
	if n := s.Calls(vaulttest.OpSign) - before; n != 2 || o.field(t, "keyCalls") != "1" { // refused runs twice
		t.Errorf("%d calls in two runs, %s said", n, o.field(t, "keyCalls"))
	}
}

// noToken wants the token in nothing that was said.
func noToken(t *testing.T, o outcome, token string) {
	t.Helper()
	if strings.Contains(o.stdout+o.stderr, token) {
		t.Errorf("the token is said:\n%s%s", o.stdout, o.stderr)
	}
}

// What fails fails with its reason, a hint that says what is missing, as few calls as can be, and nothing pushed.
func TestVaultFaults(t *testing.T) {
	t.Parallel()
	const sign, read = vaulttest.OpSign, vaulttest.OpRead
	for name, tt := range map[string]struct {
		algorithm string
		prepare   func(*vaulttest.Server)
		op        string
		fault     vaulttest.Fault
		key       string // after hashivault://release
		reason    string
		calls     string // of signing
		says      []string
	}{
		"F31 throttled for ever":         {op: sign, fault: vaulttest.Throttled(), reason: "key-throttled", calls: "8", says: []string{"asked 8 times", "rate limit quota exceeded"}},
		"F31 failing":                    {op: sign, fault: vaulttest.Internal("no space left on device"), reason: "key-service", calls: "1", says: []string{"status 500: no space left on device"}},
		"F31 sealed":                     {prepare: (*vaulttest.Server).Seal, reason: "key-unreachable", says: []string{"Vault is sealed", "hint: unseal it: `vault operator unseal`"}},
		"F32 denied":                     {op: sign, fault: vaulttest.Denied(), reason: "key-denied", calls: "1", says: []string{`path "transit/sign/release" { capabilities = ["update"] }`}},
		"F32 reading denied":             {op: read, fault: vaulttest.Denied(), reason: "key-denied", says: []string{`path "transit/keys/release" { capabilities = ["read"] }`}},
		"F32 disabled":                   {prepare: func(s *vaulttest.Server) { s.Rotate("release", certtest.Key("P-256")); s.SetMinimum("release", 2) }, key: "?version=1", reason: "key-unusable", says: []string{"from version 2 on", "min_encryption_version=1"}},
		"F32 disabled since it was read": {op: sign, fault: vaulttest.Internal("requested version for signing is less than the minimum encryption key version"), reason: "key-unusable", calls: "1", says: []string{"min_encryption_version=1"}},
		"F32 pending deletion":           {prepare: func(s *vaulttest.Server) { s.SoftDelete("release") }, reason: "key-unusable", says: []string{"marked transit/keys/release as deleted", "soft-delete-restore"}},
		"expired token":                  {prepare: func(s *vaulttest.Server) { s.Revoke(vaulttest.Root) }, reason: "key-login-expired", says: []string{"does not know the token: permission denied, invalid token", "run `vault login`"}},
		"expired token since":            {op: sign, fault: vaulttest.Expired(), reason: "key-login-expired", calls: "1", says: []string{"run `vault login`"}},
		"wrong mount":                    {key: "?mount=team/transit", reason: "key-not-found", says: []string{"no transit engine at the mount team/transit", "vault secrets list"}},
		"wrong namespace":                {key: "?namespace=ns9", reason: "key-not-found", says: []string{"(namespace ns9) has no transit engine"}},
		"wrong version":                  {key: "?version=7", reason: "key-not-found", says: []string{"no version 7 of transit/keys/release: the latest is 1"}},
		"F33 answer always lost":         {op: sign, fault: vaulttest.Fault{Effect: vaulttest.Lost}, reason: "key-unreachable", calls: "3", says: []string{"asked 3 times", "EOF"}},
		"F34 another key":                {op: sign, fault: vaulttest.Fault{Effect: vaulttest.OtherKey}, reason: "key-signature", calls: "1", says: []string{"no signature of the key that was opened"}},
		"F34 another version":            {prepare: rotatedAtSigning, key: "?version=1", reason: "key-signature", calls: "1", says: []string{"signed with version 2 of transit/keys/release instead of version 1"}},
		"longest salt":                   {algorithm: "RSA-2048", op: sign, fault: vaulttest.Fault{Effect: vaulttest.LongSalt}, reason: "key-signature", calls: "1", says: []string{"salt is not as long as the hash"}},
		"PKCS #1 v1.5":                   {algorithm: "RSA-2048", op: sign, fault: vaulttest.Fault{Effect: vaulttest.PKCS1}, reason: "key-signature", calls: "1", says: []string{"padded by PKCS #1 v1.5"}},
		"digest cut off":                 {op: sign, fault: vaulttest.Fault{Effect: vaulttest.Truncated}, reason: "key-signature", calls: "1", says: []string{"no signature of the key that was opened"}},
		"garbage":                        {op: sign, fault: vaulttest.Fault{Effect: vaulttest.Garbled}, reason: "key-signature", calls: "1", says: []string{"it is not base64"}},
		"elsewhere":                      {op: read, fault: vaulttest.Fault{Status: 307, Location: "https://vault.evil.example/v1/transit/keys/release"}, reason: "key-unreachable", says: []string{"points to https://vault.evil.example, where the token is not sent"}},
		"repeats the token":              {op: sign, fault: vaulttest.Internal("token " + vaulttest.Root + " is fine"), reason: "key-service", calls: "1", says: []string{"token [token] is fine"}},
		"silent":                         {op: read, fault: vaulttest.Fault{Effect: vaulttest.Silence}, reason: "key-unreachable", says: []string{"no answer within 13s", "VAULT_ADDR or BAO_ADDR"}},
		"silent at signing":              {op: sign, fault: vaulttest.Fault{Effect: vaulttest.Silence}, reason: "key-unreachable", calls: "1", says: []string{"no answer within 13s"}},
		"closed":                         {prepare: (*vaulttest.Server).Close, reason: "key-unreachable", says: []string{"connection refused", "VAULT_ADDR or BAO_ADDR"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s := newVault(t)
			if tt.algorithm == "" {
				tt.algorithm = "P-256"
			}
			key := certtest.Key(tt.algorithm)
			s.AddKey("release", key)
			chain := d.chainFor(key.Public(), "release")
			if tt.prepare != nil {
				tt.prepare(s)
			}
			if tt.op != "" {
				s.Fault(vaulttest.At(tt.op, 0, tt.fault))
			}
			if tt.reason != "key-signature" { // what the server says
				tt.says = append(tt.says, s.URL)
			}
			o := d.refused(t, 6, tt.reason, tt.says, "sign", d.ref, "--key", "hashivault://release"+tt.key, "--chain", chain)
			if got := o.field(t, "keyCalls"); got != tt.calls {
				t.Errorf("%q key calls said, want %q\n%s", got, tt.calls, o.stdout)
			}
			spent(t, tt.calls, s.Calls(sign))
			if o.took > 15*time.Second {
				t.Errorf("it took %s", o.took)
			}
			noToken(t, o, vaulttest.Root)
			noTokenIn(t, d)
		})
	}
}

// rotatedAtSigning is a service that rotates the key after it was read, and heeds no version.
func rotatedAtSigning(s *vaulttest.Server) {
	s.Fault(func(op string, _ int) vaulttest.Fault {
		if op != vaulttest.OpSign {
			return vaulttest.Fault{}
		}
		s.Rotate("release", certtest.Key("P-256"))
		return vaulttest.Fault{Effect: vaulttest.Latest}
	})
}

// noTokenIn wants the token in no file that was left.
func noTokenIn(t *testing.T, d *desk) {
	t.Helper()
	err := filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(vaulttest.Root)) {
			t.Errorf("the token is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What passes costs further calls, which are counted, and leaves one signature.
func TestVaultSignsAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		algorithm string
		fault     vaulttest.Fault
		times     int
		calls     string
	}{
		"F31 throttled twice":         {"P-256", vaulttest.Throttled(), 2, "3"},
		"F31 busy once":               {"P-256", vaulttest.Fault{Status: 503, Body: "busy"}, 1, "2"},
		"F33 answer lost (ECDSA)":     {"P-521", vaulttest.Fault{Effect: vaulttest.Lost}, 1, "2"},
		"F33 answer lost (RSA)":       {"RSA-3072", vaulttest.Fault{Effect: vaulttest.Lost}, 1, "2"},
		"a rotation after it is read": {"P-384", vaulttest.Fault{}, 0, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s := newVault(t)
			key := certtest.Key(tt.algorithm)
			s.AddKey("release", key)
			failing := vaulttest.At(vaulttest.OpSign, tt.times, tt.fault)
			s.Fault(func(op string, n int) vaulttest.Fault {
				if op == vaulttest.OpSign && n == 1 {
					s.Rotate("release", certtest.Key(tt.algorithm)) // version 1 stays pinned
				}
				return failing(op, n)
			})
			o := d.ok(t, "sign", d.ref, "--key", "hashivault://release", "--chain", d.chainFor(key.Public(), "release"), "-o", "json")
			if calls, written := o.field(t, "keyCalls"), o.field(t, "written"); calls != tt.calls || written != "1" {
				t.Errorf("%s key calls, %s signatures, want %s, 1\n%s", calls, written, tt.calls, o.stdout)
			}
			manifests := d.registry.Count(func(r regtest.Request) bool {
				return r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/")
			})
			if manifests != 1 {
				t.Errorf("%d manifests written", manifests)
			}
			d.accepted(t, d.ref)
			noToken(t, o, vaulttest.Root)
		})
	}
}

// After a rotation the latest version has a certificate of its own; the old one still signs where it is named.
func TestVaultRotation(t *testing.T) {
	t.Parallel()
	d, s := newVault(t)
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.AddKey("release", certtest.Key("RSA-2048"))
	keep(t, http.DefaultClient, s.URL, "transit/keys/release", d.certified(t, "hashivault://release"))
	s.Rotate("release", crypto.Signer(second))
	d.refused(t, 3, "usage", []string{"no certificate chain to sign with", "version=2", "Vault", "imprint key csr"}, "sign", d.ref, "--key", "hashivault://release")
	d.signs(t, "hashivault://release?version=1", "1")
	keep(t, http.DefaultClient, s.URL, "transit/keys/release", d.certified(t, "hashivault://release?version=2"))
	d.signs(t, "hashivault://release", "1")
	if got := d.ok(t, "key", "show", "hashivault://release", "-o", "json").field(t, "version"); got != "2" {
		t.Errorf("version %s", got)
	}
}

// Keys that cannot make Notary signatures are refused before anything costs something.
func TestVaultUnsupported(t *testing.T) {
	t.Parallel()
	d, s := newVault(t)
	for _, kind := range []string{"ed25519", "aes256-gcm96", "hmac", "managed_key"} {
		s.AddType(kind, kind)
		for _, args := range [][]string{{"key", "show"}, {"key", "csr", "--subject", "C=DE, ST=BE, O=Acme, CN=x", "--out", d.at("x.csr")}} {
			d.refused(t, 3, "key-algorithm", []string{"is of type " + kind, "rsa-2048, rsa-3072, rsa-4096, ecdsa-p256, ecdsa-p384 or ecdsa-p521"},
				append(args, "hashivault://"+kind)...)
		}
	}
	if n := s.Calls(vaulttest.OpSign); n != 0 {
		t.Errorf("%d signing calls", n)
	}
}

// A batch reads the key once.
func TestVaultBatch(t *testing.T) {
	t.Parallel()
	d, s := newVault(t)
	key := certtest.Key("P-256")
	s.AddKey("release", key)
	s.Latency(5 * time.Millisecond)
	var list strings.Builder
	for _, seed := range strings.Fields("a b c d e f g h i j k l") {
		list.WriteString(d.image(t, seed, "batch-"+seed) + "\n")
	}
	d.ok(t, "sign", "--batch", d.file("list", []byte(list.String())), "--key", "hashivault://release", "--chain", d.chainFor(key.Public(), "release"), "-o", "json")
	if reads, signs := s.Calls(vaulttest.OpRead), s.Calls(vaulttest.OpSign); reads != 1 || signs != 12 {
		t.Errorf("%d reads and %d signing calls for 12 artifacts", reads, signs)
	}
	for ref := range strings.FieldsSeq(list.String()) {
		d.accepted(t, ref)
	}
}
