package keys

import (
	"crypto"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms/kmstest/gcptest"
	"github.com/imprint-oci/imprint/kms/kmstest/wiretest"
	"github.com/imprint-oci/imprint/registry/regtest"
)

const (
	gcpRing = "projects/acme/locations/europe-west3/keyRings/release"
	gcpName = gcpRing + "/cryptoKeys/image/cryptoKeyVersions/1"
	gcpKey  = "gcpkms://" + gcpName
)

// gcpUsable is how the algorithms that can be used are named.
const gcpUsable = "RSA_SIGN_PSS_2048_SHA256, RSA_SIGN_PSS_4096_SHA512, EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384"

// newGCP makes Google Cloud KMS behind a proxy, and a desk that has a service account there.
func newGCP(t testing.TB) (*desk, *gcptest.Server, *wiretest.World) {
	t.Helper()
	w, s := wiretest.New(t), gcptest.New(t)
	w.Serve(gcptest.Host, s)
	return newDesk(t, append(w.Environ(), "GOOGLE_APPLICATION_CREDENTIALS="+s.Credentials())...), s, w
}

// gcpFails makes the first n calls of a method fail.
func gcpFails(n int, op string, f gcptest.Fault) func(string, int) gcptest.Fault {
	return func(called string, i int) gcptest.Fault {
		if called == op && i <= n {
			return f
		}
		return gcptest.OK
	}
}

const forEver = 1 << 30

// The way of a publisher whose key is at Google: a request, a certificate, signatures that notation accepts. Two methods of the
// service are called, and no other host.
func TestGCP(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RSA-2048", "RSA-4096", "P-256", "P-384"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			d, s, w := newGCP(t)
			s.AddKey(gcpName, certtest.Key(algorithm))
			chain := d.certified(t, gcpKey)
			d.signs(t, gcpKey, "1", "--chain", chain)
			// One signature for the request, one in each format.
			if n := s.Calls(gcptest.AsymmetricSign); n != 3 {
				t.Errorf("%d signing calls", n)
			}
			if got, want := s.Methods(), []string{gcptest.AsymmetricSign, gcptest.GetPublicKey}; !slices.Equal(got, want) {
				t.Errorf("called %v, want %v", got, want)
			}
			for _, agent := range s.Agents() {
				if !strings.HasPrefix(agent, "imprint/") {
					t.Fatalf("the service is told %q", agent)
				}
			}
			if hosts := slices.Compact(w.Asked()); !slices.Equal(hosts, []string{gcptest.Host}) {
				t.Errorf("connected to %q", hosts)
			}
		})
	}
}

// The key's bare name stands for its newest enabled version, which is said and pinned.
func TestGCPNewestVersion(t *testing.T) {
	t.Parallel()
	d, s, _ := newGCP(t)
	key := strings.TrimSuffix(gcpName, "/cryptoKeyVersions/1")
	s.AddKey(key+"/cryptoKeyVersions/9", certtest.Key("P-256"))
	ten := certtest.Key("P-256")
	s.AddKey(key+"/cryptoKeyVersions/10", ten)
	s.AddKey(key+"/cryptoKeyVersions/11", certtest.Key("P-256"), gcptest.State(kmspb.CryptoKeyVersion_DISABLED))
	o := d.ok(t, "key", "show", key, "-o", "json")
	for member, want := range map[string]string{"id": "gcpkms://" + key + "/cryptoKeyVersions/10", "version": "10", "service": "Google Cloud KMS"} {
		if got := o.field(t, member); got != want {
			t.Errorf("%s: %q, want %q\n%s", member, got, want, o.stdout)
		}
	}
	if o := d.ok(t, "key", "show", "cloudkms:"+key); !strings.Contains(unwrapped(o.stdout), "version 10") {
		t.Error(o.stdout)
	}
	d.signs(t, key, "1", "--chain", d.chainFor(ten.Public(), "ten"))

	s.Reset()
	s.Fault(gcpFails(forEver, gcptest.ListCryptoKeyVersions, gcptest.Denied))
	d.refused(t, 6, "key-denied", []string{"cloudkms.cryptoKeyVersions.list is denied", "(or it may not exist)",
		"hint: name the version, as gcpkms://" + key + "/cryptoKeyVersions/1"}, "key", "show", key)
	d.ok(t, "key", "show", key+"/versions/10")
}

// What Google has and the Notary Project has not is refused by key show, with what both have.
func TestGCPUnusable(t *testing.T) {
	t.Parallel()
	d, s, _ := newGCP(t)
	for name, tt := range map[string]struct {
		key       crypto.Signer
		algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm
		says      string
	}{
		"PSS 3072":         {certtest.Key("RSA-3072"), kmspb.CryptoKeyVersion_RSA_SIGN_PSS_3072_SHA256, "RSA_SIGN_PSS_3072_SHA256"},
		"PSS 4096 SHA-256": {certtest.Key("RSA-4096"), kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA256, "RSA_SIGN_PSS_4096_SHA256"},
		"PKCS1 2048":       {certtest.Key("RSA-2048"), kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256, "RSA_SIGN_PKCS1_2048_SHA256"},
		"P-521":            {certtest.Key("P-521"), 999, "number 999"}, // Google has none
		"Ed25519":          {certtest.Key("P-256"), kmspb.CryptoKeyVersion_EC_SIGN_ED25519, "EC_SIGN_ED25519"},
		"secp256k1":        {certtest.Key("P-256"), kmspb.CryptoKeyVersion_EC_SIGN_SECP256K1_SHA256, "EC_SIGN_SECP256K1_SHA256"},
		"ML-DSA":           {certtest.Key("P-256"), kmspb.CryptoKeyVersion_PQ_SIGN_ML_DSA_65, "PQC"},
		"symmetric":        {certtest.Key("P-256"), kmspb.CryptoKeyVersion_AES_256_GCM, "AES_256_GCM"},
	} {
		s.AddKey(gcpName, tt.key, gcptest.Algorithm(tt.algorithm))
		for _, command := range [][]string{
			{"key", "show", gcpKey}, {"key", "csr", gcpKey, "--subject", "C=DE, ST=BE, O=Acme, CN=release"},
			{"sign", d.ref, "--key", gcpKey, "--chain", d.at("ca.pem")},
		} {
			t.Run(name+" "+command[0]+" "+command[1], func(t *testing.T) {
				d.refused(t, 3, "key-algorithm", []string{tt.says, gcpUsable, "hint: make another key: `gcloud kms keys create NAME"}, command...)
			})
		}
	}
	if n := s.Calls(gcptest.AsymmetricSign); n != 0 {
		t.Errorf("%d signing calls", n)
	}
	// A PSS key signs a request in no older way.
	s.AddKey(gcpName, certtest.Key("RSA-2048"))
	o := d.run(t, "key", "csr", gcpKey, "--pkcs1", "--subject", "C=DE, ST=BE, O=Acme, CN=release")
	if o.code != 3 || !strings.Contains(o.stderr, "PSS") || s.Calls(gcptest.AsymmetricSign) != 0 {
		t.Errorf("exit code %d, %d signing calls: %s", o.code, s.Calls(gcptest.AsymmetricSign), o.stderr)
	}
}

// What goes wrong for good: exit code 6, the reason, the calls that it cost, and nothing written.
func TestGCPFaults(t *testing.T) {
	t.Parallel()
	const sign, read = gcptest.AsymmetricSign, gcptest.GetPublicKey
	flags := "1 --key image --keyring release --location europe-west3 --project acme"
	for name, tt := range map[string]struct {
		op     string
		fault  gcptest.Fault
		reason string
		calls  string // of the key, as imprint counts them
		says   []string
	}{
		"F31 throttled for ever": {sign, gcptest.Throttled, "key-throttled", "8", []string{"Quota exceeded", "asked 8 times", "the quota of Google Cloud KMS in the project acme"}},
		"F31 failing for ever":   {sign, gcptest.Unavailable, "key-service", "8", []string{"currently unavailable"}},
		"F32 denied": {sign, gcptest.Denied, "key-denied", "1", []string{
			"cloudkms.cryptoKeyVersions.useToSign is denied on " + gcpName + " (or it may not exist)", "roles/cloudkms.signerVerifier"}},
		"F32 denied to read": {read, gcptest.Denied, "key-denied", "", []string{
			"cloudkms.cryptoKeyVersions.viewPublicKey is denied on " + gcpName + " (or it may not exist)", "roles/cloudkms.signerVerifier"}},
		"F32 disabled":         {sign, gcptest.Disabled, "key-unusable", "1", []string{"its state is DISABLED", "hint: enable it: `gcloud kms keys versions enable " + flags}},
		"F32 disabled to read": {read, gcptest.Disabled, "key-unusable", "", []string{"its state is DISABLED", "hint: enable it: `gcloud kms keys versions enable " + flags}},
		"F32 pending deletion": {sign, gcptest.DestroyScheduled, "key-unusable", "1", []string{"its state is DESTROY_SCHEDULED", "hint: bring it back: `gcloud kms keys versions restore " + flags}},
		"destroyed":            {read, gcptest.Destroyed, "key-unusable", "", []string{"its state is DESTROYED", "hint: nothing brings this version back"}},
		"expired":              {sign, gcptest.Expired, "key-login-expired", "1", []string{"invalid authentication credentials", "gcloud auth application-default login"}},
		"expired to read":      {read, gcptest.Expired, "key-login-expired", "", []string{"invalid authentication credentials", "gcloud auth application-default login"}},
		"F33 always lost":      {sign, gcptest.Lost, "key-unreachable", "3", []string{"reaching cloudkms.googleapis.com", "HTTPS_PROXY"}},
		"F34 another key":      {sign, gcptest.OtherKey, "key-signature", "1", []string{"no signature of the key that was opened"}},
		"another version":      {sign, gcptest.OtherName, "key-signature", "1", []string{"cryptoKeyVersions/77"}},
		"wrong salt":           {sign, gcptest.LongSalt, "key-signature", "1", []string{"salt is not as long as the hash"}},
		"truncated digest":     {sign, gcptest.Truncated, "key-signature", "1", []string{"no signature of the key that was opened"}},
		"damaged signature":    {sign, gcptest.BadChecksum, "key-service", "8", []string{"the signature does not match its checksum"}},
		"damaged key":          {read, gcptest.OtherName, "key-service", "", []string{"the answer is about"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newGCP(t)
			key := certtest.Key("P-256")
			if tt.fault == gcptest.LongSalt {
				key = certtest.Key("RSA-2048")
			}
			s.AddKey(gcpName, key)
			chain := d.chainFor(key.Public(), "release")
			s.Fault(gcpFails(forEver, tt.op, tt.fault))
			o := d.refused(t, 6, tt.reason, tt.says, "sign", d.ref, "--key", gcpKey, "--chain", chain)
			if got := o.field(t, "keyCalls"); got != tt.calls {
				t.Errorf("%s key calls, want %s\n%s", got, tt.calls, o.stdout)
			}
			spent(t, tt.calls, s.Calls(sign))
			if o.took > 15*time.Second {
				t.Errorf("it took %s", o.took)
			}
		})
	}
}

// A name with another region, key or version in it is no key, whoever asks.
func TestGCPNotFound(t *testing.T) {
	t.Parallel()
	d, s, _ := newGCP(t)
	s.AddKey(gcpName, certtest.Key("P-256"))
	chain := d.chainFor(certtest.Key("P-256").Public(), "release")
	for part, wrong := range map[string]string{"europe-west3": "europe-west4", "/image/": "/images/", "Versions/1": "Versions/2"} {
		name := strings.Replace(gcpName, part, wrong, 1)
		for _, args := range [][]string{{"key", "show", "gcpkms://" + name}, {"sign", d.ref, "--key", "gcpkms://" + name, "--chain", chain}} {
			d.refused(t, 6, "key-not-found", []string{"CryptoKeyVersion " + name + " not found", "gcloud kms keys versions list"}, args...)
		}
	}
	if n := s.Calls(gcptest.AsymmetricSign); n != 0 {
		t.Errorf("%d signing calls", n)
	}
}

// What passes costs further calls, which are counted, and leaves one signature.
func TestGCPSignsAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault gcptest.Fault
		times int
		calls string
	}{
		"F31 throttled twice": {gcptest.Throttled, 2, "3"},
		"F31 failing once":    {gcptest.Internal, 1, "2"},
		"F33 answer lost":     {gcptest.Lost, 1, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, _ := newGCP(t)
			key := certtest.Key("P-384")
			s.AddKey(gcpName, key)
			s.Fault(gcpFails(tt.times, gcptest.AsymmetricSign, tt.fault))
			o := d.ok(t, "sign", d.ref, "--key", gcpKey, "--chain", d.chainFor(key.Public(), "release"), "-o", "json")
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
		})
	}
}

// A service that cannot be reached ends the run within 15 s.
func TestGCPDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kill func(*gcptest.Server, *wiretest.World)
		says string
		most time.Duration
	}{
		"F31 closed": {func(_ *gcptest.Server, w *wiretest.World) { w.Remove(gcptest.Host) }, "reaching cloudkms.googleapis.com: the proxy answers 502 Bad Gateway", 5 * time.Second},
		"F31 silent": {func(_ *gcptest.Server, w *wiretest.World) { w.Silence(gcptest.Host) }, "no answer within 13s", 15 * time.Second},
		"F31 dumb": {func(s *gcptest.Server, _ *wiretest.World) {
			s.Fault(gcpFails(forEver, gcptest.GetPublicKey, gcptest.Silence))
		}, "no answer within 13s", 15 * time.Second},
		"not Google": {func(_ *gcptest.Server, w *wiretest.World) { w.Serve(gcptest.Host, http.NotFoundHandler()) }, "what answered is not Google Cloud KMS", 15 * time.Second},
		"silent sign": {func(s *gcptest.Server, _ *wiretest.World) {
			s.Fault(gcpFails(forEver, gcptest.AsymmetricSign, gcptest.Silence))
		}, "no answer within 13s", 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, w := newGCP(t)
			key := certtest.Key("P-256")
			s.AddKey(gcpName, key)
			chain := d.chainFor(key.Public(), "release")
			tt.kill(s, w)
			reason := "key-unreachable"
			if name == "not Google" {
				reason = "key-service"
			}
			o := d.refused(t, 6, reason, []string{tt.says, "hint: check the network and HTTPS_PROXY: cloudkms.googleapis.com:443 must be reachable"},
				"sign", d.ref, "--key", gcpKey, "--chain", chain)
			if o.took > tt.most {
				t.Errorf("it took %s", o.took)
			}
		})
	}
	t.Run("unknown CA", func(t *testing.T) {
		t.Parallel()
		d, s, _ := newGCP(t)
		s.AddKey(gcpName, certtest.Key("P-256"))
		d.env = append(d.env, "SSL_CERT_FILE="+d.at("root.pem"))
		d.refused(t, 6, "key-unreachable", []string{"x509: certificate signed by unknown authority", "SSL_CERT_FILE"}, "key", "show", gcpKey)
	})
}

// Who is not logged in, or no longer, is told how to log in; what is secret in it all appears nowhere.
func TestGCPCredentials(t *testing.T) {
	t.Parallel()
	const token = "1//canary-refresh-token"
	user := func(t *testing.T, d *desk) {
		b, err := json.Marshal(map[string]string{"type": "authorized_user", "client_id": "id", "client_secret": "canary-client-secret", "refresh_token": token})
		if err != nil {
			t.Fatal(err)
		}
		d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS="+d.file("user.json", b))
	}
	invalid := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`)
	})
	for name, tt := range map[string]struct {
		set    func(*testing.T, *desk, *wiretest.World)
		reason string
		says   []string
	}{
		"none": {func(_ *testing.T, d *desk, _ *wiretest.World) {
			d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS=")
		}, "key-credentials",
			[]string{"no Google Cloud credentials", "hint: set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"}},
		"none in GitHub Actions": {func(_ *testing.T, d *desk, _ *wiretest.World) {
			d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS=", "GITHUB_ACTIONS=true")
		}, "key-credentials", []string{"set GOOGLE_APPLICATION_CREDENTIALS", "permissions: id-token: write"}},
		"no such file": {func(_ *testing.T, d *desk, _ *wiretest.World) {
			d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS=/nonexistent/account.json")
		}, "key-credentials", []string{"no Google Cloud credentials: ", "/nonexistent/account.json", "hint: set GOOGLE_APPLICATION_CREDENTIALS"}},
		"nonsense": {func(_ *testing.T, d *desk, _ *wiretest.World) {
			d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS="+d.file("nonsense.json", []byte(`{"type":"`+token)))
		}, "key-credentials", []string{"hint: set GOOGLE_APPLICATION_CREDENTIALS"}},
		"login expired": {func(t *testing.T, d *desk, w *wiretest.World) { user(t, d); w.Serve("oauth2.googleapis.com", invalid) }, "key-login-expired",
			[]string{"the Google Cloud login is refused", "gcloud auth application-default login"}},
		"token service out of reach": {func(t *testing.T, d *desk, _ *wiretest.World) { user(t, d) }, "key-unreachable",
			[]string{"reaching the token service of these credentials", "HTTPS_PROXY"}},
		"account of others": {func(t *testing.T, d *desk, _ *wiretest.World) {
			b, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "other@p.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
				"private_key": string(certtest.KeyPEM(certtest.Key("RSA-3072"))), "private_key_id": "1", "universe_domain": "googleapis.com"})
			if err != nil {
				t.Fatal(err)
			}
			d.env = append(d.env, "GOOGLE_APPLICATION_CREDENTIALS="+d.file("other.json", b))
		}, "key-login-expired", []string{"invalid authentication credentials", "a wrong clock looks the same"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, s, w := newGCP(t)
			key := certtest.Key("P-256")
			s.AddKey(gcpName, key)
			tt.set(t, d, w)
			d.env = append(d.env, "GOOGLE_SDK_GO_LOGGING_LEVEL=debug")
			args := []string{"sign", d.ref, "--key", gcpKey, "--chain", d.chainFor(key.Public(), "release")}
			o := d.refused(t, 6, tt.reason, tt.says, args...)
			spoken := o.stdout + o.stderr + d.run(t, args...).stderr
			for _, canary := range []string{token, "canary-client-secret", "PRIVATE KEY", "eyJ"} {
				if strings.Contains(spoken, canary) {
					t.Errorf("%q is repeated:\n%s", canary, spoken)
				}
			}
			if o.took > 15*time.Second {
				t.Errorf("it took %s", o.took)
			}
		})
	}
	// The client library would log each token when this variable asks for it.
	t.Run("debug log", func(t *testing.T) {
		t.Parallel()
		d, s, _ := newGCP(t)
		key := certtest.Key("P-256")
		s.AddKey(gcpName, key)
		d.env = append(d.env, "GOOGLE_SDK_GO_LOGGING_LEVEL=debug")
		o := d.ok(t, "sign", d.ref, "--key", gcpKey, "--chain", d.chainFor(key.Public(), "release"))
		account, err := os.ReadFile(s.Credentials())
		if err != nil {
			t.Fatal(err)
		}
		var secret struct {
			Key string `json:"private_key"`
		}
		if err := json.Unmarshal(account, &secret); err != nil || secret.Key == "" {
			t.Fatal(err)
		}
		for _, canary := range []string{strings.Split(secret.Key, "\n")[1], "eyJ", "Bearer"} {
			if strings.Contains(o.stdout+o.stderr, canary) {
				t.Errorf("%q is said:\n%s%s", canary, o.stdout, o.stderr)
			}
		}
	})
}
