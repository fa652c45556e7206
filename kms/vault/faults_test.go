package vault

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/vaulttest"
)

// TestSignFaults: what goes wrong at signing, what is said of it, and how often the service is asked to sign.
func TestSignFaults(t *testing.T) {
	t.Parallel()
	const policy = `path "transit/sign/release" { capabilities = ["update"] }`
	for name, tt := range map[string]struct {
		algorithm string // "": P-256
		fault     vaulttest.Fault
		times     int // 0: always
		calls     int64
		code      string // "": it signs in the end
		says      string
		remedy    string
	}{
		"F31 throttled twice, then fine": {fault: vaulttest.Throttled(), times: 2, calls: 3},
		"F31 throttled for ever":         {fault: vaulttest.Throttled(), calls: 8, code: kms.CodeThrottled, says: "rate limit quota exceeded", remedy: "sys/quotas/rate-limit"},
		"F31 a standby that lags behind": {fault: vaulttest.Fault{Status: 412, Errors: []string{"required index state not present"}}, times: 1, calls: 2},
		"F31 busy, then fine":            {fault: vaulttest.Fault{Status: 503, Body: "no server is available"}, times: 2, calls: 3},
		"F31 gateway, then fine":         {fault: vaulttest.Fault{Status: 502, Body: "<html><h1>502 Bad Gateway</h1></html>"}, times: 1, calls: 2},
		"F31 gateway for ever":           {fault: vaulttest.Fault{Status: 504, Body: "<html>\n<h1>504</h1>\n</html>"}, calls: 3, code: kms.CodeUnreachable, says: "status 504: <html>, <h1>504</h1>", remedy: "VAULT_ADDR"},
		"F31 internal error, once":       {fault: vaulttest.Internal("storage is gone"), calls: 1, code: kms.CodeService, says: "status 500: storage is gone"},
		"sealed":                         {fault: vaulttest.Fault{Status: 503, Errors: []string{"Vault is sealed"}}, calls: 3, code: kms.CodeUnreachable, says: "Vault is sealed", remedy: "vault operator unseal"},

		"F32 denied":                     {fault: vaulttest.Denied(), calls: 1, code: kms.CodeDenied, says: "denies signing with transit/sign/release: permission denied", remedy: policy},
		"F32 expired":                    {fault: vaulttest.Expired(), calls: 1, code: kms.CodeExpired, says: "does not know the token", remedy: "vault login"},
		"F32 version below the minimum":  {fault: vaulttest.Internal("requested version for signing is less than the minimum encryption key version"), calls: 1, code: kms.CodeUnusable, says: "less than the minimum", remedy: "vault write transit/keys/release/config min_encryption_version=1"},
		"F32 version above the latest":   {fault: vaulttest.Internal("requested version for signing is higher than the latest key version"), calls: 1, code: kms.CodeUnusable, says: "higher than the latest", remedy: "vault read transit/keys/release"},
		"F32 deleted softly":             {fault: vaulttest.Internal("transit key has been soft deleted"), calls: 1, code: kms.CodeUnusable, says: "soft deleted", remedy: "vault read transit/keys/release"},
		"F32 imported without a private": {fault: vaulttest.Internal("requested version for signing does not contain a private part"), calls: 1, code: kms.CodeUnusable, says: "private part", remedy: "vault read"},
		"F32 gone since it was opened":   {fault: vaulttest.Fault{Status: 400, Errors: []string{"signing key not found"}}, calls: 1, code: kms.CodeNotFound, says: "no key release in the transit engine at the mount transit", remedy: "vault list transit/keys"},
		"mount gone since it was opened": {fault: vaulttest.Fault{Status: 404, Errors: []string{`no handler for route "transit/sign/release". route entry not found.`}}, calls: 1, code: kms.CodeNotFound, says: "no transit engine at the mount transit: no handler", remedy: "vault secrets list"},

		"F33 answer lost after signing":     {fault: vaulttest.Fault{Effect: vaulttest.Lost}, times: 1, calls: 2},
		"F33 answer lost after signing RSA": {algorithm: "RSA-2048", fault: vaulttest.Fault{Effect: vaulttest.Lost}, times: 2, calls: 3},
		"answer always lost":                {fault: vaulttest.Fault{Effect: vaulttest.Lost}, calls: 3, code: kms.CodeUnreachable, says: "EOF", remedy: "VAULT_ADDR"},

		"A03 longest salt":       {algorithm: "RSA-2048", fault: vaulttest.Fault{Effect: vaulttest.LongSalt}, calls: 1, code: kms.CodeSignature, says: "salt is not as long as the hash"},
		"PKCS #1 v1.5":           {algorithm: "RSA-2048", fault: vaulttest.Fault{Effect: vaulttest.PKCS1}, calls: 1, code: kms.CodeSignature, says: "PKCS #1 v1.5, not PSS"},
		"digest cut off":         {fault: vaulttest.Fault{Effect: vaulttest.Truncated}, calls: 1, code: kms.CodeSignature, says: "no signature of the key that was opened"},
		"digest cut off RSA":     {algorithm: "RSA-2048", fault: vaulttest.Fault{Effect: vaulttest.Truncated}, calls: 1, code: kms.CodeSignature, says: "no signature of the key that was opened"},
		"F34 another key":        {fault: vaulttest.Fault{Effect: vaulttest.OtherKey}, calls: 1, code: kms.CodeSignature, says: "no signature of the key that was opened"},
		"signature in signature": {fault: vaulttest.Fault{Effect: vaulttest.Garbled}, calls: 1, code: kms.CodeSignature, says: "not base64"},

		"page of a proxy":   {fault: vaulttest.Fault{Status: 200, Body: "<html>log in to the hotel's network</html>"}, calls: 1, code: kms.CodeService, says: "cannot be read: invalid character"},
		"no data":           {fault: vaulttest.Fault{Status: 200, Body: `{"data":null}`}, calls: 1, code: kms.CodeService, says: "no data"},
		"no content":        {fault: vaulttest.Fault{Status: 204}, calls: 1, code: kms.CodeService, says: "status 204"},
		"endless answer":    {fault: vaulttest.Fault{Status: 200, Body: strings.Repeat(" ", maxAnswer+1)}, calls: 1, code: kms.CodeService, says: "too long (8388608 bytes"},
		"endless error":     {fault: vaulttest.Fault{Status: 500, Body: strings.Repeat("x", maxAnswer+1)}, calls: 1, code: kms.CodeService, says: "too long (8388608 bytes"},
		"long error":        {fault: vaulttest.Fault{Status: 500, Body: strings.Repeat("words ", 10000)}, calls: 1, code: kms.CodeService, says: "words words"},
		"token in an error": {fault: vaulttest.Internal("no policy for " + vaulttest.Root + " at all"), calls: 1, code: kms.CodeService, says: "no policy for [token] at all"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.algorithm == "" {
				tt.algorithm = "P-256"
			}
			s := vaulttest.New(t)
			s.AddKey("release", certtest.Key(tt.algorithm))
			k := opened(t, s, "release")
			s.Fault(vaulttest.At(vaulttest.OpSign, tt.times, tt.fault))
			begun := time.Now()
			n, err := signed(t, k)
			if n != tt.calls || s.Calls(vaulttest.OpSign) != int(tt.calls) {
				t.Errorf("%d calls counted, %d made, want %d", n, s.Calls(vaulttest.OpSign), tt.calls)
			}
			switch {
			case tt.code == "" && err != nil:
				t.Error(err)
			case tt.code != "" && err == nil:
				t.Error("signed")
			case tt.code != "":
				wants(t, err, tt.code, tt.says, tt.remedy)
			}
			if took := time.Since(begun); tt.calls <= 3 && took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestRetryAfter: the service says when to come back.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	s.AddKey("release", certtest.Key("P-256"))
	k := opened(t, s, "release")
	f := vaulttest.Throttled()
	f.RetryAfter = 1
	s.Fault(vaulttest.At(vaulttest.OpSign, 1, f))
	begun := time.Now()
	if n, err := signed(t, k); n != 2 || err != nil {
		t.Error(n, err)
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("asked again after %s", took)
	}
}

// TestOpenFaults: the same while the key is read, where a wrong name must cost one request and no signature.
func TestOpenFaults(t *testing.T) {
	t.Parallel()
	const policy = `path "transit/keys/release" { capabilities = ["read"] }`
	for name, tt := range map[string]struct {
		prepare            func(*vaulttest.Server)
		query              string
		reads              int
		code, says, remedy string
	}{
		"throttled twice":  {prepare: fault(2, vaulttest.Throttled()), reads: 3},
		"denied":           {prepare: fault(0, vaulttest.Denied()), reads: 1, code: kms.CodeDenied, says: "denies reading transit/keys/release: permission denied", remedy: policy},
		"expired":          {prepare: func(s *vaulttest.Server) { s.Revoke(vaulttest.Root) }, reads: 1, code: kms.CodeExpired, says: "permission denied, invalid token", remedy: "run `vault login`, or renew VAULT_TOKEN or BAO_TOKEN"},
		"sealed":           {prepare: func(s *vaulttest.Server) { s.Seal() }, reads: 3, code: kms.CodeUnreachable, says: "Vault is sealed", remedy: "vault operator unseal"},
		"internal, once":   {prepare: fault(0, vaulttest.Internal("storage")), reads: 1, code: kms.CodeService, says: "status 500: storage"},
		"wrong mount":      {query: "mount=tranzit", reads: 0, code: kms.CodeNotFound, says: "no transit engine at the mount tranzit", remedy: "vault secrets list"},
		"another engine":   {query: "mount=transit/x", reads: 0, code: kms.CodeNotFound, says: "no transit engine at the mount transit/x: unsupported path", remedy: "vault secrets list"},
		"wrong namespace":  {query: "namespace=ns9", reads: 0, code: kms.CodeNotFound, says: "(namespace ns9) has no transit engine at the mount transit", remedy: "NAMESPACE"},
		"wrong name":       {query: "mount=empty", reads: 1, code: kms.CodeNotFound, says: "has no key release in the transit engine at the mount empty", remedy: "vault list empty/keys"},
		"version 9":        {query: "version=9", reads: 1, code: kms.CodeNotFound, says: "no version 9 of transit/keys/release: the latest is 3", remedy: "from 1 to 3"},
		"below minimum":    {query: "version=1", prepare: func(s *vaulttest.Server) { s.SetMinimum("release", 2) }, reads: 1, code: kms.CodeUnusable, says: "from version 2 on, not with version 1", remedy: "min_encryption_version=1"},
		"at the minimum":   {query: "version=2", prepare: func(s *vaulttest.Server) { s.SetMinimum("release", 2) }, reads: 1},
		"put away":         {query: "version=1", prepare: func(s *vaulttest.Server) { s.SetAvailable("release", 2) }, reads: 1, code: kms.CodeUnusable, says: "put version 1", remedy: "vault read"},
		"deleted softly":   {prepare: func(s *vaulttest.Server) { s.SoftDelete("release") }, reads: 1, code: kms.CodeUnusable, says: "marked transit/keys/release as deleted", remedy: "transit/keys/release/soft-delete-restore"},
		"login page":       {prepare: fault(0, vaulttest.Fault{Status: 200, Body: "<html>"}), reads: 1, code: kms.CodeService, says: "cannot be read"},
		"keys of no kind":  {prepare: fault(0, vaulttest.Fault{Status: 200, Body: `{"data":{"type":"rsa-2048","latest_version":1,"keys":{"1":17}}}`}), reads: 1, code: kms.CodeService, says: "cannot be read"},
		"no version yet":   {prepare: fault(0, vaulttest.Fault{Status: 200, Body: `{"data":{"type":"rsa-2048","latest_version":0,"keys":{}}}`}), reads: 1, code: kms.CodeNotFound, says: "no version 0", remedy: "name a version"},
		"data of no kind":  {prepare: fault(0, vaulttest.Fault{Status: 200, Body: `{"data":[]}`}), reads: 1, code: kms.CodeService, says: "cannot be read"},
		"no token at old":  {prepare: fault(0, vaulttest.Fault{Status: 400, Errors: []string{"missing client token"}}), reads: 1, code: kms.CodeDenied, says: "missing client token", remedy: policy},
		"401 of a gateway": {prepare: fault(0, vaulttest.Fault{Status: 401, Body: "who are you"}), reads: 1, code: kms.CodeDenied, says: "who are you", remedy: policy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := vaulttest.New(t)
			s.Mount("empty")
			s.AddKey("release", certtest.Key("P-256"), certtest.Key("P-256"), certtest.Key("P-256"))
			if tt.prepare != nil {
				tt.prepare(s)
			}
			var query []string
			if tt.query != "" {
				query = []string{tt.query}
			}
			_, err := key(t, s, "release", query...)
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
			} else {
				if err == nil {
					t.Fatal("opened")
				}
				wants(t, err, tt.code, tt.says, tt.remedy)
				if !strings.HasPrefix(err.Error(), "opening key hashivault://release?") || !strings.Contains(err.Error(), s.URL) {
					t.Errorf("it does not say which key of which server: %v", err)
				}
			}
			if n := s.Calls(vaulttest.OpRead); tt.reads > 0 && n != tt.reads {
				t.Errorf("%d reads, want %d", n, tt.reads)
			}
			if n := len(s.Seen()); tt.reads == 0 && n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			if n := s.Calls(vaulttest.OpSign); n != 0 {
				t.Errorf("%d signatures", n)
			}
		})
	}
}

func fault(times int, f vaulttest.Fault) func(*vaulttest.Server) {
	return func(s *vaulttest.Server) { s.Fault(vaulttest.At(vaulttest.OpRead, times, f)) }
}

// TestBadVersionCostsOneRequest: where the token cannot read, the service itself says that a version is none, with status 500,
// which its own client would ask three times over four seconds.
func TestBadVersionCostsOneRequest(t *testing.T) {
	t.Parallel()
	s := vaulttest.New(t)
	signer := certtest.Key("P-256")
	s.AddKey("release", signer)
	s.Fault(vaulttest.At(vaulttest.OpRead, 0, vaulttest.Denied()))
	k, err := keyWith(t, s, kms.Options{Leaf: signer.Public()}, "release", "version=9")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	n, err := signed(t, k)
	wants(t, err, kms.CodeUnusable, "higher than the latest key version", "vault read")
	if took := time.Since(begun); n != 1 || s.Calls(vaulttest.OpSign) != 1 || took > time.Second {
		t.Errorf("%d calls, %d made, in %s", n, s.Calls(vaulttest.OpSign), took)
	}
}

func TestDead(t *testing.T) {
	t.Parallel()
	quick := func(t *testing.T, do func() error, limit time.Duration, says string) {
		t.Helper()
		begun := time.Now()
		err := do()
		if took := time.Since(begun); took > limit {
			t.Errorf("it took %s", took)
		}
		wants(t, err, kms.CodeUnreachable, says, "VAULT_ADDR or BAO_ADDR")
	}
	t.Run("closed at opening", func(t *testing.T) {
		t.Parallel()
		s := vaulttest.New(t)
		s.Close()
		quick(t, func() error { _, err := key(t, s, "release"); return err }, 3*time.Second, "connection refused")
	})
	t.Run("closed at signing", func(t *testing.T) {
		t.Parallel()
		s := vaulttest.New(t)
		s.AddKey("release", certtest.Key("P-256"))
		k := opened(t, s, "release")
		s.Close()
		quick(t, func() error { _, err := signed(t, k); return err }, 3*time.Second, "refused")
	})
	t.Run("silent at opening", func(t *testing.T) {
		t.Parallel()
		s := vaulttest.New(t)
		s.Fault(vaulttest.At(vaulttest.OpRead, 0, vaulttest.Fault{Effect: vaulttest.Silence}))
		quick(t, func() error { _, err := key(t, s, "release"); return err }, 15*time.Second, "no answer within 13s")
	})
	t.Run("silent at signing", func(t *testing.T) {
		t.Parallel()
		s := vaulttest.New(t)
		s.AddKey("release", certtest.Key("P-256"))
		k := opened(t, s, "release")
		s.Fault(vaulttest.At(vaulttest.OpSign, 0, vaulttest.Fault{Effect: vaulttest.Silence}))
		quick(t, func() error { _, err := signed(t, k); return err }, 15*time.Second, "no answer within 13s")
		if n := s.Calls(vaulttest.OpSign); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("takes connections only", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		quick(t, func() error {
			_, err := Open(t.Context(), parsed(t, "hashivault://release?addr=https://"+l.Addr().String()), kms.Options{})
			return err
		}, 15*time.Second, "no answer")
	})
}

// TestRedirects: the client would send the token after any redirect, to any host.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := vaulttest.New(t)
		s.AddKey("release", certtest.Key("P-256"))
		redirect := vaulttest.Fault{Status: status, Location: elsewhere.URL + "/v1/transit/keys/release?x=" + vaulttest.Root}
		k := opened(t, s, "release")
		s.Fault(func(string, int) vaulttest.Fault { return redirect })
		_, err := key(t, s, "release")
		wants(t, err, kms.CodeUnreachable, "points to "+elsewhere.URL+", where the token is not sent", "set VAULT_ADDR or BAO_ADDR to "+elsewhere.URL)
		_, err = signed(t, k)
		wants(t, err, kms.CodeUnreachable, "points to "+elsewhere.URL, "VAULT_ADDR")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests went where the service pointed", n)
	}
}
