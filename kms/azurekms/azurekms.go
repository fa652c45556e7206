// Package azurekms signs with keys in Azure Key Vault and Azure Managed HSM.
//
// A key is opened with one request, which tells its public key and its version; that version is pinned and signs. The caller needs
// keys/get and keys/sign: the role Key Vault Crypto User, or Managed HSM Crypto User. Certificates are read from the certificate
// object of the same name (certificates/get), or, where the URI says ?chain=secret, from its secret (secrets/get).
//
// Credentials are those of the SDK's DefaultAzureCredential. They are sent to no host but the vault, and only a token for the
// resource that belongs to the vault's own domain.
package azurekms

import (
	"context"
	"crypto"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/imprint-oci/imprint/kms"
)

// A domain is where vaults of one kind in one cloud are.
type domain struct {
	suffix    string              // of its hosts; also the host of the resource that tokens are for
	hsm       bool                // Managed HSM
	authority cloud.Configuration // who gives tokens. Zero: the public cloud's, or what AZURE_AUTHORITY_HOST says
}

func domains() []domain {
	return []domain{
		{"vault.azure.net", false, cloud.Configuration{}},
		{"managedhsm.azure.net", true, cloud.Configuration{}},
		{"vault.azure.cn", false, cloud.AzureChina},
		{"managedhsm.azure.cn", true, cloud.AzureChina},
		{"vault.usgovcloudapi.net", false, cloud.AzureGovernment},
		{"managedhsm.usgovcloudapi.net", true, cloud.AzureGovernment},
	}
}

// A vault is one key of a vault, and the way to it.
type vault struct {
	domain
	host          string
	name, version string // as the service writes them, once the key is described
	chain         string // where certificates are read: "", certificate or secret
	public        crypto.PublicKey
	keys          *azkeys.Client
	secrets       *azsecrets.Client
	warn          func(text string)
	warned        sync.Once
}

// Open opens the key of an azurekms: URI, with [kms.Opener]'s contract. Without a version it is the current one.
func Open(ctx context.Context, u *url.URL, o kms.Options) (kms.Key, error) {
	return open(ctx, u, o, link{})
}

// open is Open over a link of the caller's.
func open(ctx context.Context, u *url.URL, o kms.Options, l link) (kms.Key, error) {
	k, err := connect(ctx, u, o, l)
	if err != nil {
		return nil, fmt.Errorf("opening key %s: %w", kms.Format(u), err)
	}
	return k, nil
}

func connect(ctx context.Context, u *url.URL, o kms.Options, l link) (kms.Key, error) {
	v := &vault{host: strings.ToLower(u.Host), chain: u.Query().Get("chain"), warn: o.Warn}
	i := slices.IndexFunc(domains(), func(d domain) bool { return strings.HasSuffix(v.host, "."+d.suffix) })
	if i < 0 {
		return nil, kms.Invalid(kms.CodeURI, "%s is no host of Key Vault or Managed HSM", v.host)
	}
	v.domain = domains()[i]
	v.name, v.version, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if v.hsm && v.chain != "" {
		return nil, kms.Invalid(kms.CodeURI, "a Managed HSM keeps no certificates: leave ?chain=%s out and use --chain", v.chain)
	}
	if err := v.dial(o.Agent, l); err != nil {
		return nil, err
	}
	err := kms.Ask(ctx, kms.DefaultPatience, v.describe)
	if err != nil {
		return nil, err
	}
	pinned := &url.URL{Scheme: "azurekms", Host: v.host, Path: "/" + v.name + "/" + v.version, RawQuery: u.RawQuery}
	r := kms.Remote{
		URI: kms.Format(pinned), Service: "Azure Key Vault", Version: v.version,
		Public: v.public, Sign: v.sign, Raw: true, PKCS1: true,
		Certificates: v.certificates,
	}
	if v.hsm {
		r.Service, r.Certificates = "Azure Managed HSM", nil
	}
	return r.Key()
}

// dial makes the clients. They ask nothing yet.
func (v *vault) dial(agent string, l link) error {
	options := policy.ClientOptions{
		Cloud:     v.authority,
		Retry:     policy.RetryOptions{MaxRetries: -1}, // kms.Ask asks again
		Telemetry: policy.TelemetryOptions{ApplicationID: agent},
		Transport: l.transporter(),
	}
	credential, err := l.credential(options)
	if err != nil {
		return kms.Failure(kms.CodeCredentials, remedyCredentials, "no Azure credentials: %s", kms.Text(err.Error()))
	}
	options.PerCallPolicies = []policy.Policy{redirected{}}
	options.PerRetryPolicies = []policy.Policy{guard{resource: v.suffix}}
	tokens := credentials{credential}
	at := "https://" + v.host
	if v.keys, err = azkeys.NewClient(at, tokens, &azkeys.ClientOptions{ClientOptions: options}); err != nil {
		return kms.Service("making a client: %w", err)
	}
	if v.secrets, err = azsecrets.NewClient(at, tokens, &azsecrets.ClientOptions{ClientOptions: options}); err != nil {
		return kms.Service("making a client: %w", err)
	}
	return nil
}

// describe asks for the key once, checks that it can sign, and pins its version.
func (v *vault) describe(ctx context.Context) error {
	ctx, w := watching(ctx)
	var raw *http.Response
	answer, err := v.keys.GetKey(policy.WithCaptureResponse(ctx, &raw), v.name, v.version, nil)
	if err != nil {
		return v.explain(err, w, keysGet)
	}
	if answer.Key == nil || answer.Key.KID == nil {
		return kms.Service("%s answers without a key", v.host)
	}
	name, version, err := v.identify("keys", string(*answer.Key.KID))
	if err != nil {
		return err
	}
	if err := v.usable(answer.KeyBundle, dateOf(raw)); err != nil {
		return err
	}
	pub, err := publicKey(answer.Key)
	if err != nil {
		return err
	}
	v.name, v.version, v.public = name, version, pub
	return nil
}

// identify reads the identifier of what was asked for, https://HOST/COLLECTION/NAME/VERSION, and refuses that of anything else:
// the vault's answer decides which key signs.
func (v *vault) identify(collection, id string) (name, version string, err error) {
	u, err := url.Parse(id)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", kms.Service("%s answers with the identifier %q, which is none", v.host, kms.Text(id))
	}
	parts := strings.Split(u.Path, "/")
	if !strings.EqualFold(strings.TrimSuffix(u.Host, ":443"), v.host) || len(parts) != 4 || parts[0] != "" || parts[1] != collection ||
		!strings.EqualFold(parts[2], v.name) || !isVersion(parts[3]) || v.version != "" && !strings.EqualFold(parts[3], v.version) {
		return "", "", kms.Service("%s was asked for %s and answers with %s", v.host,
			strings.TrimSuffix("/"+collection+"/"+v.name+"/"+v.version, "/"), kms.Text(id))
	}
	return parts[2], parts[3], nil
}

// isVersion reports whether s can be written into a key URI as a version: letters and digits.
func isVersion(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// usable refuses a key whose attributes keep it from signing. now is the service's own clock, since it is what judges; zero leaves
// the judgment to it.
func (v *vault) usable(k azkeys.KeyBundle, now time.Time) error {
	unusable := func(remedy, format string, args ...any) error {
		return kms.Failure(kms.CodeUnusable, remedy, "key %s in %s "+format, append([]any{v.name, v.host}, args...)...)
	}
	if a := k.Attributes; a != nil {
		switch {
		case a.Enabled != nil && !*a.Enabled:
			return unusable("enable it: "+v.command(keysGet, "--enabled true"), "is disabled")
		case a.NotBefore != nil && !now.IsZero() && now.Before(*a.NotBefore):
			return unusable("set its dates: "+v.command(keysGet, "--not-before DATE"), "is not to be used before %s", a.NotBefore.UTC().Format(time.RFC3339))
		case a.Expires != nil && !now.IsZero() && !now.Before(*a.Expires):
			return unusable("set its dates: "+v.command(keysGet, "--expires DATE"), "expired at %s", a.Expires.UTC().Format(time.RFC3339))
		}
	}
	if ops := k.Key.KeyOps; len(ops) > 0 {
		var names []string
		for _, op := range ops {
			if op != nil {
				names = append(names, string(*op))
			}
		}
		if !slices.Contains(names, string(azkeys.KeyOperationSign)) {
			return unusable("let it sign: "+v.command(keysGet, "--ops sign verify"), "is not for signing, only for %s", kms.Text(strings.Join(names, ", ")))
		}
	}
	return nil
}

// command is how the attributes of what the action is done to are changed.
func (v *vault) command(a action, change string) string {
	return "`az keyvault " + a.noun() + " set-attributes " + v.named() + " " + change + "`"
}

// named is how az is told which key is meant.
func (v *vault) named() string {
	short, _, _ := strings.Cut(v.host, ".")
	flag := "--vault-name "
	if v.hsm {
		flag = "--hsm-name "
	}
	return flag + short + " --name " + v.name
}

func dateOf(r *http.Response) time.Time {
	if r == nil {
		return time.Time{}
	}
	t, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}
