package azurekms

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/imprint-oci/imprint/certchain/certtest"
	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/kmstest/azuretest"
)

// always is a fault of every request for one operation; times of the first few.
func always(op string, f azuretest.Fault) func(string, int) azuretest.Fault {
	return times(op, f, 1<<30)
}

func times(op string, f azuretest.Fault, limit int) func(string, int) azuretest.Fault {
	return func(asked string, n int) azuretest.Fault {
		if asked == op && n <= limit {
			return f
		}
		return azuretest.None
	}
}

func TestFaultsOfSigning(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault     azuretest.Fault
		times     int // 0: always
		algorithm string
		reason    string // "": it signs in the end
		says      []string
		remedy    string
		calls     int
	}{
		"F31 throttled twice": {fault: azuretest.Throttled, times: 2, calls: 3},
		"F31 throttled for ever": {fault: azuretest.Throttled, reason: "key-throttled", calls: 8,
			says: []string{"asked 8 times", "too many requests", "v.vault.azure.net"}},
		"F31 failing twice":              {fault: azuretest.Failing, times: 2, calls: 3},
		"F32 denied":                     {fault: azuretest.Denied, reason: "key-denied", calls: 1, says: []string{"keys/sign at v.vault.azure.net", "ForbiddenByRbac"}, remedy: `"Key Vault Crypto User"`},
		"F32 denied by an access policy": {fault: azuretest.DeniedByPolicy, reason: "key-denied", calls: 1, says: []string{"ForbiddenByPolicy"}, remedy: "allow keys/sign: "},
		"F32 denied by the network":      {fault: azuretest.Firewalled, reason: "key-denied", calls: 1, remedy: "firewall"},
		"F32 disabled":                   {fault: azuretest.Disabled, reason: "key-unusable", calls: 1, says: []string{"KeyDisabled"}, remedy: "enable it: `az keyvault key set-attributes --vault-name v --name k --enabled true`"},
		"F32 expired":                    {fault: azuretest.KeyExpired, reason: "key-unusable", calls: 1, says: []string{"KeyExpired"}, remedy: "--expires"},
		"F32 pending deletion":           {fault: azuretest.Deleting, reason: "key-unusable", calls: 1, says: []string{"being deleted"}, remedy: "az keyvault key recover"},
		"token expired, and the next":    {fault: azuretest.TokenExpired, reason: "key-login-expired", says: []string{"token is expired"}, remedy: "az login", calls: 1},
		"F33 answer lost":                {fault: azuretest.Lost, times: 1, calls: 2},
		"F33 answer lost each time":      {fault: azuretest.Lost, reason: "key-unreachable", calls: 3, says: []string{"v.vault.azure.net"}},
		"F34 signature of another version": {fault: azuretest.OtherKey, reason: "key-signature", calls: 1,
			says: []string{"no signature of the key that was opened"}},
		"F34 another version, which says so": {fault: azuretest.OtherVersion, reason: "key-signature", calls: 1, says: []string{"another key signed"}},
		"wrong salt":                         {fault: azuretest.LongSalt, algorithm: "RSA-2048", reason: "key-signature", calls: 1, says: []string{"salt"}},
		"truncated digest":                   {fault: azuretest.ShortDigest, reason: "key-signature", calls: 1},
		"truncated digest, RSA":              {fault: azuretest.ShortDigest, algorithm: "RSA-2048", reason: "key-signature", calls: 1},
		"no JSON":                            {fault: azuretest.Garbage, reason: "key-service", calls: 1, says: []string{"cannot be read"}},
		"4 MB":                               {fault: azuretest.Huge, reason: "key-service", calls: 1, says: []string{"more than 1048576 bytes"}},
		"redirected":                         {fault: azuretest.Redirected, reason: "key-service", calls: 1, says: []string{"307"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.algorithm == "" {
				tt.algorithm = "P-256"
			}
			first := w.AddKey("k", certtest.Key(tt.algorithm))
			k, counted := kms.Metered(w.opened(t, plain+"k"))
			other := certtest.Key("P-256")
			if tt.algorithm == "P-256" {
				w.AddKey("k", other)
			}
			limit := tt.times
			if limit == 0 {
				limit = 1 << 30
			}
			w.Fault(times(azuretest.KeysSign, tt.fault, limit))
			sig, err := sign(t.Context(), k)
			if calls := w.Calls(azuretest.KeysSign); calls != tt.calls || counted.Load() != int64(tt.calls) {
				t.Errorf("%d calls, %d counted, want %d", calls, counted.Load(), tt.calls)
			}
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || sig != nil {
				t.Fatalf("%x, %v", sig, err)
			}
			reason, remedy := failure(t, err)
			if reason != tt.reason || !strings.Contains(remedy, tt.remedy) {
				t.Errorf("%s, %q, want %s, %q: %v", reason, remedy, tt.reason, tt.remedy, err)
			}
			if !errors.Is(err, kms.ErrService) {
				t.Errorf("not the service's: %v", err)
			}
			for _, says := range append(tt.says, plain+"k/"+first.ID) {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("it does not say %q: %v", says, err)
				}
			}
			if asked := strings.Join(w.wire.Asked(), " "); strings.Contains(asked, "elsewhere") {
				t.Errorf("asked %s", asked)
			}
		})
	}
}

// A token that was revoked is replaced in the same call, if the vault says how.
func TestRevokedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.AddKey("k", certtest.Key("P-256"))
	k, calls := kms.Metered(w.opened(t, plain+"k"))
	w.Fault(times(azuretest.KeysSign, azuretest.Revoked, 1))
	if _, err := sign(t.Context(), k); err != nil {
		t.Error(err)
	}
	if n := w.Calls(azuretest.Token); n != 2 || calls.Load() != 1 {
		t.Errorf("%d tokens, %d calls", n, calls.Load())
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.AddKey("k", certtest.Key("P-256"))
	k := w.opened(t, plain+"k")
	w.RetryAfter = "2"
	w.Fault(times(azuretest.KeysSign, azuretest.Throttled, 1))
	begun := time.Now()
	if _, err := sign(t.Context(), k); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("asked again after %s", took)
	}
}

func TestFaultsOfOpening(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		uri    string // "": the key
		set    func(w *world, v *azuretest.Version)
		reason string // "": it opens
		class  error  // nil: kms.ErrService
		says   []string
		remedy string
	}{
		"throttled twice":    {set: func(w *world, _ *azuretest.Version) { w.Fault(times(azuretest.KeysGet, azuretest.Throttled, 2)) }},
		"denied":             {set: faulty(azuretest.KeysGet, azuretest.Denied), reason: "key-denied", says: []string{"keys/get at v.vault.azure.net"}, remedy: `"Key Vault Crypto User"`},
		"denied by an HSM":   {uri: hsm + "k", set: faulty(azuretest.KeysGet, azuretest.Denied), reason: "key-denied", remedy: `local role "Managed HSM Crypto User" on /keys/k`},
		"disabled, by 403":   {set: faulty(azuretest.KeysGet, azuretest.Disabled), reason: "key-unusable", remedy: "--enabled true"},
		"no key":             {uri: plain + "nobody", reason: "key-not-found", says: []string{"KeyNotFound", "nobody"}, remedy: "az keyvault key list-versions --vault-name v --name nobody"},
		"no version":         {uri: plain + "k/0123456789abcdef0123456789abcdef", reason: "key-not-found", says: []string{"A key with"}},
		"disabled":           {set: func(_ *world, v *azuretest.Version) { v.Disabled = true }, reason: "key-unusable", says: []string{"disabled"}, remedy: "enable it: `az keyvault key set-attributes --vault-name v --name k --enabled true`"},
		"disabled in an HSM": {uri: hsm + "k", set: func(_ *world, v *azuretest.Version) { v.Disabled = true }, reason: "key-unusable", remedy: "--hsm-name h --name k"},
		"expired":            {set: func(_ *world, v *azuretest.Version) { v.Expires = time.Now().Add(-time.Hour) }, reason: "key-unusable", says: []string{"expired at 20"}},
		"not yet":            {set: func(_ *world, v *azuretest.Version) { v.NotBefore = time.Now().Add(time.Hour) }, reason: "key-unusable", says: []string{"before 20"}},
		"valid": {set: func(_ *world, v *azuretest.Version) {
			v.NotBefore, v.Expires = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		}},
		"not for signing":           {set: func(_ *world, v *azuretest.Version) { v.Ops = []string{"encrypt", "wrapKey"} }, reason: "key-unusable", says: []string{"only for encrypt, wrapKey"}, remedy: "--ops sign verify"},
		"no certificates in an HSM": {uri: hsm + "k?chain=certificate", reason: "key-uri", class: kms.ErrInvalid, says: []string{"keeps no certificates"}},
		"secp256k1": {set: func(_ *world, v *azuretest.Version) { v.JWK = func(j map[string]any) { j["crv"] = "P-256K" } }, reason: "key-algorithm", class: kms.ErrInvalid,
			says: []string{"P-256K", "RSA 2048, 3072, 4096 or ECDSA P-256, P-384, P-521"}},
		"symmetric": {set: func(_ *world, v *azuretest.Version) { v.JWK = func(j map[string]any) { j["kty"] = "oct-HSM" } }, reason: "key-algorithm", class: kms.ErrInvalid, says: []string{"oct-HSM"}},
		"RSA with a small exponent": {set: func(_ *world, v *azuretest.Version) {
			v.Signer = certtest.Key("RSA-2048")
			v.JWK = func(j map[string]any) { j["e"] = "Aw" }
		}, reason: "key-algorithm", class: kms.ErrInvalid, says: []string{"exponent 3"}},
		"RSA 1024":       {set: func(_ *world, v *azuretest.Version) { v.Signer = certtest.Key("RSA-1024") }, reason: "key-algorithm", class: kms.ErrInvalid, says: []string{"1024 bits"}},
		"no curve":       {set: edited("crv", nil), reason: "key-service", says: []string{"no curve"}},
		"no type":        {set: edited("kty", nil), reason: "key-service", says: []string{"no type"}},
		"no modulus":     {set: edited("kty", "RSA"), reason: "key-service", says: []string{"modulus"}},
		"empty X":        {set: edited("x", ""), reason: "key-service", says: []string{"0 and 32 bytes"}},
		"long X":         {set: edited("x", strings.Repeat("A_", 30)), reason: "key-service", says: []string{"45 and 32 bytes"}},
		"off the curve":  {set: edited("x", "AQ"), reason: "key-service", says: []string{"no point"}},
		"another curve":  {set: edited("crv", "P-384"), reason: "key-service", says: []string{"no point"}},
		"X is no base64": {set: edited("x", "%%%"), reason: "key-service", says: []string{"cannot be read"}},
		"no kid":         {set: edited("kid", nil), reason: "key-service", says: []string{"without a key"}},
		"kid of another vault": {set: edited("kid", "https://w.vault.azure.net/keys/k/0123456789abcdef0123456789abcdef"), reason: "key-service",
			says: []string{"was asked for /keys/k and answers with https://w.vault.azure.net/"}},
		"kid of another key":      {set: edited("kid", "https://v.vault.azure.net/keys/kk/0123456789abcdef0123456789abcdef"), reason: "key-service", says: []string{"keys/kk"}},
		"kid of a certificate":    {set: edited("kid", "https://v.vault.azure.net/certificates/k/0123456789abcdef0123456789abcdef"), reason: "key-service"},
		"kid without a version":   {set: edited("kid", "https://v.vault.azure.net/keys/k"), reason: "key-service"},
		"kid with odd version":    {set: edited("kid", "https://v.vault.azure.net/keys/k/a%3Fb"), reason: "key-service"},
		"kid over plain HTTP":     {set: edited("kid", "http://v.vault.azure.net/keys/k/0a"), reason: "key-service", says: []string{"which is none"}},
		"kid with control signs":  {set: edited("kid", "https://v.vault.azure.net/keys/k/\x1b[2J\n0a"), reason: "key-service"},
		"kid with port":           {set: edited("kid", "https://V.vault.azure.net:443/keys/K/0a")},
		"extra members":           {set: edited("x5t#S256", map[string]any{"a": 1})},
		"answered in another way": {set: faulty(azuretest.KeysGet, azuretest.Garbage), reason: "key-service", says: []string{"cannot be read"}},
		"without an end":          {set: faulty(azuretest.KeysGet, azuretest.Huge), reason: "key-service", says: []string{"more than"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v := w.AddKey("k", certtest.Key("P-256"))
			if tt.set != nil {
				w.Edit(func() { tt.set(w, v) })
			}
			if tt.uri == "" {
				tt.uri = plain + "k"
			}
			k, err := w.open(t.Context(), tt.uri, kms.Options{})
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatalf("it opened: %v", k)
			}
			reason, remedy := failure(t, err)
			if tt.class == nil {
				tt.class = kms.ErrService
			}
			if reason != tt.reason || !strings.Contains(remedy, tt.remedy) || !errors.Is(err, tt.class) {
				t.Errorf("%s, %q, want %s, %q: %v", reason, remedy, tt.reason, tt.remedy, err)
			}
			for _, says := range append(tt.says, "opening key "+tt.uri+": ") {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("it does not say %q: %v", says, err)
				}
			}
		})
	}
}

func faulty(op string, f azuretest.Fault) func(*world, *azuretest.Version) {
	return func(w *world, _ *azuretest.Version) { w.Fault(always(op, f)) }
}

// edited sets a member of the public key, or removes it.
func edited(member string, value any) func(*world, *azuretest.Version) {
	return func(_ *world, v *azuretest.Version) {
		v.JWK = func(j map[string]any) {
			if j[member] = value; value == nil {
				delete(j, member)
			}
		}
	}
}

// A version that was asked for and is not the one that comes back is another key.
func TestAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.AddKey("k", certtest.Key("P-256"))
	w.AddKey("k", certtest.Key("P-256"))
	w.Fault(always(azuretest.KeysGet, azuretest.OtherVersion))
	_, err := w.open(t.Context(), plain+"k/"+first.ID, kms.Options{})
	if reason, _ := failure(t, err); reason != "key-service" || !strings.Contains(err.Error(), "was asked for /keys/k/"+first.ID) {
		t.Error(err)
	}
}

// Coordinates without their leading zeros, and with too many, are the same point.
func TestShortCoordinates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var key *ecdsa.PrivateKey
	for short := false; !short; {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		key, short = k, point[1] == 0
	}
	v := w.AddKey("k", key)
	for name, edit := range map[string]func(x string) string{
		"short":  func(x string) string { return unpad(t, x) },
		"longer": func(x string) string { return pad(t, x) },
	} {
		w.Edit(func() { v.JWK = func(j map[string]any) { j["x"] = edit(j["x"].(string)) } })
		k, err := w.open(t.Context(), plain+"k", kms.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !key.PublicKey.Equal(k.Public()) {
			t.Errorf("%s: another key", name)
		} else if _, err := sign(t.Context(), k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Dead ends: at most 15 s, and the host by name.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	const entra = "login.microsoftonline.com"
	for name, tt := range map[string]struct {
		set    func(w *world)
		says   string
		within time.Duration
	}{
		"vault closed":        {func(w *world) { w.wire.Remove(".vault.azure.net") }, "reaching v.vault.azure.net: the proxy ", 5 * time.Second},
		"vault silent":        {func(w *world) { w.wire.Silence(".vault.azure.net") }, "v.vault.azure.net", 15 * time.Second},
		"silent when asked":   {func(w *world) { w.Fault(always(azuretest.KeysGet, azuretest.Silent)) }, "v.vault.azure.net", 15 * time.Second},
		"login closed":        {func(w *world) { w.wire.Remove(entra) }, "reaching " + entra + ": the proxy", 5 * time.Second},
		"login silent":        {func(w *world) { w.Fault(always(azuretest.Token, azuretest.Silent)) }, entra, 15 * time.Second},
		"no such host":        {func(w *world) { w.link.transport.Proxy = nil; w.link.transport.TLSClientConfig = nil }, "reaching v.vault.azure.net: dial", 15 * time.Second},
		"certificate unknown": {func(w *world) { w.link.transport.TLSClientConfig.RootCAs = nil }, "reaching v.vault.azure.net: tls: ", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.AddKey("k", certtest.Key("P-256"))
			w.Edit(func() { tt.set(w) })
			begun := time.Now()
			_, err := w.open(t.Context(), plain+"k", kms.Options{})
			if err == nil {
				t.Fatal("it opened")
			}
			if took := time.Since(begun); took > tt.within {
				t.Errorf("it took %s", took)
			}
			if reason, _ := failure(t, err); reason != "key-unreachable" || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %q", reason, err, tt.says)
			}
		})
	}
}

func TestSilentWhenSigning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.AddKey("k", certtest.Key("P-256"))
	k := w.opened(t, plain+"k")
	w.Fault(always(azuretest.KeysSign, azuretest.Silent))
	begun := time.Now()
	_, err := sign(t.Context(), k)
	if reason, _ := failure(t, err); reason != "key-unreachable" || !strings.Contains(err.Error(), "no answer within") {
		t.Error(err)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := sign(ctx, k); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		set    func(w *world)
		reason string // "": it opens
		says   string
		remedy string
	}{
		"wrong secret": {func(w *world) { w.login("", "", "canary-wrong") }, "key-credentials", "AADSTS7000215: Invalid client secret", "the secret's value, not its ID"},
		"wrong client": {func(w *world) { w.login("", "99999999-0000-0000-0000-000000000000", "") }, "key-credentials", "AADSTS700016", "AZURE_CLIENT_ID"},
		"no such tenant": {func(w *world) {
			w.Authority = "https://login.microsoftonline.com/00000000-1111-2222-3333-444444444444"
			w.login("00000000-1111-2222-3333-444444444444", "", "")
		}, "key-credentials", "", "AZURE_TENANT_ID"},
		"another tenant":   {func(w *world) { w.login("00000000-1111-2222-3333-444444444444", "", "") }, "key-credentials", "getting a token of tenant 72f988bf-86f1-41af-91ab-2d7cd011db47", "AZURE_TENANT_ID"},
		"secret expired":   {func(w *world) { w.Fault(always(azuretest.Token, azuretest.SecretExpired)) }, "key-login-expired", "AADSTS7000222", "make a new one"},
		"throttled twice":  {func(w *world) { w.Fault(times(azuretest.Token, azuretest.Throttled, 2)) }, "", "", ""},
		"failing for ever": {func(w *world) { w.Fault(always(azuretest.Token, azuretest.Failing)) }, "key-service", "AADSTS90033", ""},
		"none at all": {func(w *world) {
			w.link.login = func(o policy.ClientOptions) (azcore.TokenCredential, error) {
				return azidentity.NewChainedTokenCredential([]azcore.TokenCredential{
					unavailable("EnvironmentCredential: missing environment variable AZURE_TENANT_ID"),
					unavailable("ManagedIdentityCredential: no response\nfrom the IMDS endpoint"), unavailable("AzureCLICredential: Azure CLI not found on path")}, nil)
			}
		}, "key-credentials", "no Azure credentials: EnvironmentCredential: missing environment variable AZURE_TENANT_ID; nor is there a token from ManagedIdentityCredential, AzureCLICredential", "run `az login`"},
		"a metadata service of another kind": {func(w *world) {
			w.link.login = func(o policy.ClientOptions) (azcore.TokenCredential, error) { // the proxy answers for it, with 405
				managed, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: o})
				if err != nil {
					return nil, err
				}
				return azidentity.NewChainedTokenCredential([]azcore.TokenCredential{unavailable("EnvironmentCredential: missing environment variable AZURE_TENANT_ID"),
					managed, unavailable("AzureCLICredential: never asked")}, nil)
			}
		}, "key-credentials", "AZURE_TENANT_ID; nor is there a token from ManagedIdentityCredential (169.254.169.254 answers 405", "AZURE_TOKEN_CREDENTIALS=dev"},
		"az logged out": {func(w *world) {
			w.link.login = func(o policy.ClientOptions) (azcore.TokenCredential, error) {
				return azidentity.NewChainedTokenCredential([]azcore.TokenCredential{unavailable("EnvironmentCredential: missing"),
					unavailable("AzureCLICredential: ERROR: AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks")}, nil)
			}
		}, "key-login-expired", "AzureCLICredential", "az login"},
		"no such credential": {func(w *world) {
			w.link.login = func(policy.ClientOptions) (azcore.TokenCredential, error) {
				return nil, errors.New("invalid AZURE_TOKEN_CREDENTIALS\nvalue")
			}
		}, "key-credentials", "invalid AZURE_TOKEN_CREDENTIALS value", "az login"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.AddKey("k", certtest.Key("P-256"))
			w.Edit(func() { tt.set(w) })
			_, err := w.open(t.Context(), plain+"k", kms.Options{})
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it opened")
			}
			if strings.Contains(err.Error(), "Trace ID") || strings.Contains(err.Error(), "----") || strings.Contains(err.Error(), w.Secret) {
				t.Errorf("it says too much: %v", err)
			}
			if reason, remedy := failure(t, err); reason != tt.reason || !strings.Contains(err.Error(), tt.says) || !strings.Contains(remedy, tt.remedy) {
				t.Errorf("%s, %q: %v", reason, remedy, err)
			}
			if n := w.Calls(azuretest.KeysGet); n != 0 {
				t.Errorf("%d requests with a token", n)
			}
		})
	}
}

// login makes the client log in as somebody else.
func (w *world) login(tenant, client, secret string) {
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	w.link.login = func(o policy.ClientOptions) (azcore.TokenCredential, error) {
		return azidentity.NewClientSecretCredential(or(tenant, w.Tenant), or(client, w.Client), or(secret, w.Secret),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: o})
	}
}

// unavailable is a credential that is not there.
type unavailable string

func (u unavailable) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, azidentity.NewCredentialUnavailableError(string(u))
}

// No token is asked for, and none sent, if the challenge is not that of a vault of the host's own domain.
func TestChallengeIsChecked(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(w *world){
		"another service":       func(w *world) { w.Resource = "https://graph.microsoft.com" },
		"a parent domain":       func(w *world) { w.Resource = "https://azure.net" },
		"the vault itself":      func(w *world) { w.Resource = "https://v.vault.azure.net" },
		"another cloud":         func(w *world) { w.Resource = "https://vault.azure.cn" },
		"a Managed HSM":         func(w *world) { w.Resource = "https://managedhsm.azure.net" },
		"plain HTTP":            func(w *world) { w.Resource = "http://vault.azure.net" },
		"no URL":                func(w *world) { w.Resource = "vault.azure.net" },
		"two resources":         func(w *world) { w.Resource = `https://vault.azure.net" resource="https://graph.microsoft.com` },
		"a scope before it":     func(w *world) { w.Resource = `https://vault.azure.net" scope="https://graph.microsoft.com/.default` },
		"a word of claims":      func(w *world) { w.Resource = `https://graph.microsoft.com" error="insufficient_claims` },
		"authority of one word": func(w *world) { w.Authority = "x" },
		"authority of a host":   func(w *world) { w.Authority = "https://login.microsoftonline.com" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.AddKey("k", certtest.Key("P-256"))
			set(w)
			_, err := w.open(t.Context(), plain+"k", kms.Options{})
			if err == nil {
				t.Fatal("it opened")
			}
			if reason, remedy := failure(t, err); reason != "key-service" || strings.Contains(err.Error()+remedy, "DisableChallenge") {
				t.Error(err)
			}
			if w.Calls(azuretest.Token) != 0 || w.Calls(azuretest.KeysGet) != 0 {
				t.Errorf("%d tokens were asked for, and %d sent", w.Calls(azuretest.Token), w.Calls(azuretest.KeysGet))
			}
		})
	}
}
